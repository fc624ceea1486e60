import { BerthError } from '../common/errors.ts';
import { type AppRoot, getKey } from './app-key.ts';
import { ed25519Sign, ed25519Verify } from './ed25519.ts';
import { sha256 } from './hash.ts';
import { k256Sign } from './secp256k1.ts';

/** Path and purpose of the key that `Sign` uses. */
const SIGNING = { path: 'vms', purpose: 'signing' } as const;

export interface SignResult {
  /** 64 bytes. */
  readonly signature: Buffer;
  /** The signature, then the chain of the key. */
  readonly signatureChain: readonly Buffer[];
  readonly publicKey: Buffer;
}

/**
 * `Sign`, with the app's signing key. ed25519 signs the message, secp256k1 its SHA-256, secp256k1_prehashed the 32 bytes
 * it is given.
 *
 * @throws BerthError invalid_argument for another algorithm, or a digest that has not 32 bytes
 */
export async function signData(root: AppRoot, algorithm: string, data: Uint8Array): Promise<SignResult> {
  const scheme = schemeOf(algorithm);
  const { key, publicKey, signatureChain } = await signingKey(root, scheme.key);
  const signature = await scheme.sign(key, data);
  return { signature, signatureChain: [signature, ...signatureChain], publicKey };
}

/** The key that {@link signData} uses, for an attestation of it. */
export function signingKey(root: AppRoot, algorithm: string): ReturnType<typeof getKey> {
  return getKey(root, SIGNING.path, SIGNING.purpose, algorithm);
}

/**
 * `Verify`.
 *
 * @throws BerthError invalid_argument when key, signature or digest cannot be what they should be; a signature that is
 * merely wrong is `false`
 */
export async function verifyData(
  algorithm: string,
  data: Uint8Array,
  signature: Uint8Array,
  publicKey: Uint8Array,
): Promise<boolean> {
  const scheme = schemeOf(algorithm);
  try {
    return await scheme.verify(publicKey, data, signature);
  } catch (error) {
    if (error instanceof BerthError) throw error;
    throw new BerthError('invalid_argument', { reason: 'Malformed public key or signature' }, error);
  }
}

interface Scheme {
  readonly key: 'secp256k1' | 'ed25519';
  readonly sign: (key: Buffer, data: Uint8Array) => Buffer | Promise<Buffer>;
  readonly verify: (publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array) => boolean | Promise<boolean>;
}

const hashed: Scheme = {
  key: 'secp256k1',
  sign: (key, data) => k256Sign(key, sha256(data)),
  verify: (publicKey, data, signature) => verifyK256(publicKey, sha256(data), signature),
};
const schemes = new Map<string, Scheme>([
  ['ed25519', { key: 'ed25519', sign: ed25519Sign, verify: ed25519Verify }],
  ['secp256k1', hashed],
  ['k256', hashed],
  [
    'secp256k1_prehashed',
    {
      key: 'secp256k1',
      sign: (key, data) => k256Sign(key, digest(data)),
      verify: (publicKey, data, signature) => verifyK256(publicKey, digest(data), signature),
    },
  ],
]);

/** The library is loaded when it is first asked: signing does without it. */
async function verifyK256(publicKey: Uint8Array, digest: Uint8Array, signature: Uint8Array): Promise<boolean> {
  const { k256Verify } = await import('./secp256k1-verify.ts');
  return k256Verify(publicKey, digest, signature);
}

function schemeOf(algorithm: string): Scheme {
  const scheme = schemes.get(algorithm);
  if (scheme === undefined) throw new BerthError('invalid_argument', { reason: 'Unsupported algorithm' });
  return scheme;
}

function digest(data: Uint8Array): Uint8Array {
  if (data.length === 32) return data;
  const reason = `Pre-hashed signing requires a 32-byte digest, but received ${data.length} bytes`;
  throw new BerthError('invalid_argument', { reason });
}
