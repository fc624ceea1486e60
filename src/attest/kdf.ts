import { hkdfSync } from 'node:crypto';
import { hkdf } from '@noble/hashes/hkdf';
import { sha256 } from '@noble/hashes/sha2';

/** Bytes of every derived key. */
const KEY_BYTES = 32;
const SALT = 'RATLS';
/** Node refuses more. */
const MAX_NATIVE_INFO_BYTES = 1024;

/**
 * The key derivation of all app keys: HKDF-SHA256, salt "RATLS", info the plain concatenation of `context`.
 * No separators: ("a", "b") and ("ab") give the same key, so whoever derives keys keeps contexts apart.
 */
export function deriveKey(secret: Uint8Array, context: readonly (Uint8Array | string)[]): Buffer {
  const info = Buffer.concat(context.map((item) => Buffer.from(item as Uint8Array)));
  if (info.length > MAX_NATIVE_INFO_BYTES) return Buffer.from(hkdf(sha256, secret, SALT, info, KEY_BYTES));
  return Buffer.from(hkdfSync('sha256', secret, SALT, info, KEY_BYTES));
}
