import { BerthError } from '../common/errors.ts';
import { ed25519PublicKey } from './ed25519.ts';
import { keccak256 } from './hash.ts';
import { expandKey, extractKey } from './kdf.ts';
import { k256PublicKey, k256SignRecoverable } from './secp256k1.ts';

/** Algorithms of `GetKey`. */
export type KeyAlgorithm = 'secp256k1' | 'ed25519';

/** A derived key and the proof of where it comes from. */
export interface AppKey {
  /** 32 bytes: a secp256k1 private key or an ed25519 seed. One path gives the same bytes for both. */
  readonly key: Buffer;
  /** 33 bytes (compressed secp256k1) or 32 (ed25519). */
  readonly publicKey: Buffer;
  /**
   * [0] 65 bytes by the app's key over Keccak-256("purpose:hex of the public key"); [1] the KMS's signature over the app's
   * key, empty without a KMS.
   */
  readonly signatureChain: readonly [Buffer, Buffer];
}

/** The secrets a key is derived from: fields of the app's keys. */
export interface AppRoot {
  /** 32-byte secp256k1 private key of the app. */
  readonly k256Key: Buffer;
  /** 65 bytes or none. */
  readonly k256Signature: Buffer;
}

/**
 * `GetKey`: the key of a path. The purpose goes into the signature, not into the key. What was derived once is remembered:
 * the curve arithmetic takes milliseconds where a processor is emulated, and services ask for the same few keys.
 *
 * @param algorithm empty means secp256k1, `k256` is another name of it
 * @returns shared with other callers, not to be written to
 * @throws BerthError invalid_argument for another algorithm
 */
export async function getKey(root: AppRoot, path: string, purpose: string, algorithm: string): Promise<AppKey> {
  const known = keyAlgorithm(algorithm);
  const name = JSON.stringify([known, path, purpose]);
  const { keys, extracted } = rememberedOf(root);
  const found = keys.get(name);
  if (found !== undefined) return found;
  const derived = await derive(root, extracted, path, purpose, known);
  if (name.length <= MAX_REMEMBERED_NAME) {
    const [oldest] = keys.keys();
    if (keys.size >= MAX_REMEMBERED && oldest !== undefined) keys.delete(oldest);
    keys.set(name, derived);
  }
  return derived;
}

/** What is remembered of a root. */
interface Remembered {
  /** The oldest first. */
  readonly keys: Map<string, AppKey>;
  /** What the root's key becomes before it is any path's. */
  readonly extracted: Buffer;
}

const remembered = new WeakMap<AppRoot, Remembered>();
const MAX_REMEMBERED = 1000;
const MAX_REMEMBERED_NAME = 1000;

function rememberedOf(root: AppRoot): Remembered {
  const known = remembered.get(root);
  if (known !== undefined) return known;
  const begun: Remembered = { keys: new Map(), extracted: extractKey(root.k256Key) };
  remembered.set(root, begun);
  return begun;
}

async function derive(
  root: AppRoot,
  extracted: Buffer,
  path: string,
  purpose: string,
  algorithm: KeyAlgorithm,
): Promise<AppKey> {
  const key = expandKey(extracted, [path]);
  const publicKey = algorithm === 'ed25519' ? ed25519PublicKey(key) : await k256PublicKey(key);
  const statement = keccak256(`${purpose}:${publicKey.toString('hex')}`);
  return { key, publicKey, signatureChain: [await k256SignRecoverable(root.k256Key, statement), root.k256Signature] };
}

/** @throws BerthError invalid_argument for another algorithm */
export function keyAlgorithm(name: string): KeyAlgorithm {
  switch (name) {
    case '':
    case 'k256':
    case 'secp256k1':
      return 'secp256k1';
    case 'ed25519':
      return 'ed25519';
    default:
      throw new BerthError('invalid_argument', { reason: 'Unsupported algorithm' });
  }
}

/** What the KMS root signs about an app's key: Keccak-256("dstack-kms-issued:" ‖ app id ‖ compressed public key). */
export function kmsIssuedDigest(appId: Uint8Array, appPublicKey: Uint8Array): Buffer {
  return keccak256('dstack-kms-issued:', appId, appPublicKey);
}
