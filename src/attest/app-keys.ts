import { createPrivateKey, type KeyObject, randomBytes } from 'node:crypto';
import type { AppRoot } from './app-key.ts';
import { deriveKey } from './kdf.ts';
import { deriveP256, deriveSecret } from './p256.ts';
import { raTlsExtension, raTlsOid } from './tls/extensions.ts';
import { certificateAuthority, createCertificate, publicKeyInfo } from './x509/certificate.ts';
import { certificateLabel, privateKeyPem, toPem } from './x509/pem.ts';

/** How an app's certificates are signed, and by whom its keys were given. */
export type KeyProvider =
  | {
      readonly name: 'none' | 'local-sgx' | 'tpm';
      /** PEM (PKCS#8) of the app's own P-256 certificate authority. */
      readonly caKey: string;
      /** Hex; empty for `none`. */
      readonly id: string;
    }
  | {
      readonly name: 'kms';
      readonly url: string;
      /** Hex of the SubjectPublicKeyInfo of the KMS root certificate. */
      readonly id: string;
      /** PEM of the authority that signs client certificates for the KMS, and its key. */
      readonly tempCaCert: string;
      readonly tempCaKey: string;
    };

/** Everything secret that an app gets. */
export interface AppKeys extends AppRoot {
  /** 32 bytes. */
  readonly diskCryptKey: Buffer;
  /** 32-byte X25519 private key; empty without a KMS. */
  readonly envCryptKey: Buffer;
  readonly gatewayAppId: string;
  /** PEM of the certificate that app certificates end at: the KMS root, or the app's own root. */
  readonly caCert: string;
  readonly keyProvider: KeyProvider;
}

/** Bytes of the secret that the keys of an app without a KMS come from. */
const SEED_BYTES = 32;

export interface SeedKeysOptions {
  /** Default `none`. */
  readonly provider?: 'none' | 'local-sgx' | 'tpm';
  /** Hex; what identifies the provider. */
  readonly providerId?: string;
  /** A stripped attestation of 64 bytes of report data, to be put into the app's root certificate. */
  readonly attest?: (reportData: Buffer) => Promise<Buffer>;
}

/**
 * The keys of an app without a KMS, from a secret of 32 bytes: random at each boot (`none`), or sealed by a TPM or a local
 * provider, which then has the same keys at each boot.
 */
export async function appKeysFromSeed(
  seed: Uint8Array = randomBytes(SEED_BYTES),
  { provider = 'none', providerId = '', attest }: SeedKeysOptions = {},
): Promise<AppKeys> {
  if (seed.length !== SEED_BYTES) throw new RangeError(`the seed of app keys has ${SEED_BYTES} bytes`);
  const caKey = deriveP256(seed, ['app-key']);
  return {
    diskCryptKey: deriveSecret(seed, ['app-disk-key']),
    envCryptKey: Buffer.alloc(0),
    k256Key: deriveKey(seed, ['app-k256-key']),
    k256Signature: Buffer.alloc(0),
    gatewayAppId: '',
    caCert: toPem(await appRoot(caKey, attest), certificateLabel),
    keyProvider: { name: provider, caKey: privateKeyPem(caKey), id: providerId },
  };
}

/** The self-signed certificate that an app without a KMS signs its certificates with. */
async function appRoot(key: KeyObject, attest: SeedKeysOptions['attest']): Promise<Buffer> {
  const { keyBinding } = await import('./tls/binding.ts');
  const publicKey = publicKeyInfo(key);
  const attestation = attest === undefined ? null : await attest(keyBinding(publicKey));
  return createCertificate(
    {
      subject: { commonName: 'App Root Cert' },
      publicKey,
      notBefore: new Date('1975-01-01T00:00:00Z'),
      notAfter: new Date('2099-12-31T00:00:00Z'),
      extensions: [
        ...certificateAuthority(1),
        ...(attestation === null ? [] : [raTlsExtension(raTlsOid.attestation, attestation)]),
      ],
    },
    { key },
  );
}

/** `.appkeys.json`: bytes in hex, the provider as an object of one field that names it. */
interface AppKeysFile {
  readonly disk_crypt_key: string;
  readonly env_crypt_key: string;
  readonly k256_key: string;
  readonly k256_signature: string;
  readonly gateway_app_id: string;
  readonly ca_cert: string;
  readonly key_provider: {
    readonly None?: { readonly key: string };
    readonly Local?: { readonly key: string; readonly mr: string };
    readonly Tpm?: { readonly key: string; readonly pubkey: string };
    readonly Kms?: {
      readonly url: string;
      readonly pubkey: string;
      readonly tmp_ca_key: string;
      readonly tmp_ca_cert: string;
    };
  };
}

/** Text of `.appkeys.json`. It is secret. */
export function serializeAppKeys(keys: AppKeys): string {
  const file: AppKeysFile = {
    disk_crypt_key: keys.diskCryptKey.toString('hex'),
    env_crypt_key: keys.envCryptKey.toString('hex'),
    k256_key: keys.k256Key.toString('hex'),
    k256_signature: keys.k256Signature.toString('hex'),
    gateway_app_id: keys.gatewayAppId,
    ca_cert: keys.caCert,
    key_provider: providerField(keys.keyProvider),
  };
  return `${JSON.stringify(file, null, 2)}\n`;
}

function providerField(provider: KeyProvider): AppKeysFile['key_provider'] {
  switch (provider.name) {
    case 'none':
      return { None: { key: provider.caKey } };
    case 'local-sgx':
      return { Local: { key: provider.caKey, mr: provider.id } };
    case 'tpm':
      return { Tpm: { key: provider.caKey, pubkey: provider.id } };
    case 'kms':
      return {
        Kms: {
          url: provider.url,
          pubkey: provider.id,
          tmp_ca_key: provider.tempCaKey,
          tmp_ca_cert: provider.tempCaCert,
        },
      };
  }
}

/** Reads `.appkeys.json`. Throws an Error that names the field, and never its content. */
export function parseAppKeys(text: string): AppKeys {
  let file: Partial<AppKeysFile>;
  try {
    file = JSON.parse(text) as Partial<AppKeysFile>;
  } catch {
    // The parser's message quotes the text.
    throw new Error('the app keys are not JSON');
  }
  const k256Key = hexField(file, 'k256_key', [32]);
  const keys: AppKeys = {
    diskCryptKey: hexField(file, 'disk_crypt_key', [32]),
    envCryptKey: hexField(file, 'env_crypt_key', [0, 32]),
    k256Key,
    k256Signature: hexField(file, 'k256_signature', [0, 65]),
    gatewayAppId: file.gateway_app_id ?? '',
    caCert: textField(file.ca_cert, 'ca_cert'),
    keyProvider: parseProvider(file.key_provider ?? {}),
  };
  if (keys.keyProvider.name !== 'kms') checkKey(keys.keyProvider.caKey);
  return keys;
}

function parseProvider({ None, Local, Tpm, Kms }: AppKeysFile['key_provider']): KeyProvider {
  if (None) return { name: 'none', caKey: textField(None.key, 'key_provider.None.key'), id: '' };
  if (Local) return { name: 'local-sgx', caKey: textField(Local.key, 'key_provider.Local.key'), id: Local.mr ?? '' };
  if (Tpm) return { name: 'tpm', caKey: textField(Tpm.key, 'key_provider.Tpm.key'), id: Tpm.pubkey ?? '' };
  if (Kms)
    return {
      name: 'kms',
      url: textField(Kms.url, 'key_provider.Kms.url'),
      id: textField(Kms.pubkey, 'key_provider.Kms.pubkey'),
      tempCaKey: textField(Kms.tmp_ca_key, 'key_provider.Kms.tmp_ca_key'),
      tempCaCert: textField(Kms.tmp_ca_cert, 'key_provider.Kms.tmp_ca_cert'),
    };
  throw new Error('key_provider of the app keys is none of None, Local, Tpm, Kms');
}

function hexField(file: Partial<AppKeysFile>, name: keyof AppKeysFile, lengths: readonly number[]): Buffer {
  const text = file[name] ?? '';
  if (typeof text !== 'string' || !/^[0-9a-f]*$/i.test(text) || !lengths.includes(text.length / 2))
    throw new Error(`${name} of the app keys is not hex of ${lengths.join(' or ')} bytes`);
  return Buffer.from(text, 'hex');
}

function textField(value: unknown, name: string): string {
  if (typeof value !== 'string') throw new Error(`${name} of the app keys is not a text`);
  return value;
}

function checkKey(caKey: string): void {
  try {
    createPrivateKey(caKey);
  } catch {
    throw new Error('the authority key of the app keys is not a PEM private key');
  }
}
