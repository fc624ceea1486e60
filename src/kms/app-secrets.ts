import type { KeyObject } from 'node:crypto';
import { ID_BYTES } from '../attest/app-compose.ts';
import { kmsIssuedDigest } from '../attest/app-key.ts';
import { envPublicKey } from '../attest/encrypted-env.ts';
import { keccak256 } from '../attest/hash.ts';
import { deriveKey } from '../attest/kdf.ts';
import { deriveP256, deriveSecret, p256Scalar } from '../attest/p256.ts';
import { k256PublicKey, k256SignRecoverable } from '../attest/secp256k1.ts';
import { raTlsExtension, raTlsOid, usage } from '../attest/tls/extensions.ts';
import { certificateAuthority, createCertificate, publicKeyInfo } from '../attest/x509/certificate.ts';
import { BerthError } from '../common/errors.ts';
import type { KmsRoot } from './root.ts';

/** The keys of one app, all derived from the root by the published formulas. */
export interface AppSecrets {
  readonly diskCryptKey: Buffer;
  readonly envCryptKey: Buffer;
  readonly k256Key: Buffer;
  /** By the KMS's secp256k1 key over the app's public key. */
  readonly k256Signature: Buffer;
}

export async function appSecrets(root: KmsRoot, appId: Buffer, instanceId: Buffer): Promise<AppSecrets> {
  checkAppId(appId);
  const ca = p256Scalar(root.caKey);
  const k256Key = deriveKey(root.k256Key, [appId, 'app-key']);
  return {
    diskCryptKey: deriveSecret(ca, [appId, instanceId, 'app-disk-crypt-key']),
    envCryptKey: envSecret(root, appId),
    k256Key,
    k256Signature: await k256SignRecoverable(root.k256Key, kmsIssuedDigest(appId, await k256PublicKey(k256Key))),
  };
}

/** The public key that an app's environment is encrypted to, with proof that it is this KMS's. */
export interface EnvPublicKey {
  /** 32 bytes. */
  readonly publicKey: Buffer;
  /** 65 bytes over Keccak-256("dstack-env-encrypt-pubkey:" ‖ app id ‖ key). */
  readonly signature: Buffer;
  /** Seconds since 1970. */
  readonly timestamp: bigint;
  /** The same with the timestamp, 8 bytes big-endian, before the key. */
  readonly signatureV1: Buffer;
}

export async function envEncryptPublicKey(root: KmsRoot, appId: Buffer, now: Date): Promise<EnvPublicKey> {
  checkAppId(appId);
  const publicKey = envPublicKey(envSecret(root, appId));
  const timestamp = BigInt(Math.floor(now.getTime() / 1000));
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(timestamp);
  const sign = (...parts: Buffer[]): Promise<Buffer> =>
    k256SignRecoverable(root.k256Key, keccak256('dstack-env-encrypt-pubkey:', ...parts));
  const [signature, signatureV1] = await Promise.all([sign(appId, publicKey), sign(appId, time, publicKey)]);
  return { publicKey, signature, timestamp, signatureV1 };
}

/** The authority of one app: its key, and its certificate under the root, as DER. */
export function appAuthority(root: KmsRoot, appId: Buffer): { readonly key: KeyObject; readonly certificate: Buffer } {
  checkAppId(appId);
  const key = deriveP256(p256Scalar(root.caKey), [appId, 'app-ca']);
  const certificate = createCertificate(
    {
      subject: { organization: 'Dstack', commonName: 'Dstack App CA' },
      publicKey: publicKeyInfo(key),
      notBefore: new Date('1975-01-01T00:00:00Z'),
      notAfter: new Date('2099-12-31T00:00:00Z'),
      extensions: [
        ...certificateAuthority(0),
        raTlsExtension(raTlsOid.appId, appId),
        raTlsExtension(raTlsOid.usage, usage.appAuthority),
      ],
    },
    { key: root.caKey, certificate: root.caCertificate },
  );
  return { key, certificate };
}

function envSecret(root: KmsRoot, appId: Buffer): Buffer {
  return deriveSecret(p256Scalar(root.caKey), [appId, 'env-encrypt-key']);
}

/** Contexts of derivation have no separators: another length would let one app reach another's keys. */
function checkAppId(appId: Buffer): void {
  if (appId.length !== ID_BYTES)
    throw new BerthError('invalid_argument', { reason: `app_id must be ${ID_BYTES} bytes` });
}
