import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { certificateAuthority, createCertificate, publicKeyInfo } from '../attest/x509/certificate.ts';
import { certificateFromPem, certificateLabel, privateKeyPem, toPem } from '../attest/x509/pem.ts';
import { SealError } from './sealed.ts';

/** The secrets that all app keys of a KMS come from. */
export interface KmsRoot {
  /** P-256. */
  readonly caKey: KeyObject;
  /** DER; every app certificate ends here. */
  readonly caCertificate: Buffer;
  /** 32-byte secp256k1 private key. */
  readonly k256Key: Buffer;
  /** Signs the certificates that guests present; its key is given to whoever asks, and proves nothing. */
  readonly tempCaKey: KeyObject;
  readonly tempCaCertificate: Buffer;
}

const organization = 'Dstack';
const validity = { notBefore: new Date('1975-01-01T00:00:00Z'), notAfter: new Date('2099-12-31T00:00:00Z') };

/** A new root: keys that no other KMS has. */
export function createRoot(): KmsRoot {
  const caKey = newKey();
  const tempCaKey = newKey();
  return {
    caKey,
    caCertificate: authority(caKey, 'Dstack KMS CA', 1),
    // All but 2^-128 of the values are private keys.
    k256Key: randomBytes(32),
    tempCaKey,
    tempCaCertificate: authority(tempCaKey, 'Dstack Client Temp CA', 0),
  };
}

const pem = z.string().max(10_000);
const schema = z.strictObject({
  ca_key: pem,
  ca_cert: pem,
  k256_key: z.string().regex(/^[0-9a-f]{64}$/),
  temp_ca_key: pem,
  temp_ca_cert: pem,
});

/** The root as bytes, to be sealed. */
export function serializeRoot(root: KmsRoot): Buffer {
  const content: z.input<typeof schema> = {
    ca_key: privateKeyPem(root.caKey),
    ca_cert: toPem(root.caCertificate, certificateLabel),
    k256_key: root.k256Key.toString('hex'),
    temp_ca_key: privateKeyPem(root.tempCaKey),
    temp_ca_cert: toPem(root.tempCaCertificate, certificateLabel),
  };
  return Buffer.from(JSON.stringify(content));
}

/** Reads what {@link serializeRoot} wrote. Throws a SealError without any of the content. */
export function parseRoot(bytes: Uint8Array): KmsRoot {
  try {
    const content = schema.parse(JSON.parse(Buffer.from(bytes).toString()));
    return {
      caKey: createPrivateKey(content.ca_key),
      caCertificate: certificateFromPem(content.ca_cert),
      k256Key: Buffer.from(content.k256_key, 'hex'),
      tempCaKey: createPrivateKey(content.temp_ca_key),
      tempCaCertificate: certificateFromPem(content.temp_ca_cert),
    };
  } catch {
    throw new SealError('the sealed content is not the root of a KMS');
  }
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
}

function authority(key: KeyObject, commonName: string, pathLength: number): Buffer {
  return createCertificate(
    {
      subject: { organization, commonName },
      publicKey: publicKeyInfo(key),
      ...validity,
      extensions: certificateAuthority(pathLength),
    },
    { key },
  );
}
