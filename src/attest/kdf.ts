import { hkdfSync } from 'node:crypto';

/** Bytes of every derived key. */
export const KEY_BYTES = 32;

/**
 * The key derivation of all app keys: HKDF-SHA256, salt "RATLS", info the plain concatenation of `context`.
 * No separators: ("a", "b") and ("ab") give the same key, so whoever derives keeps contexts apart.
 */
export function deriveKey(secret: Uint8Array, context: readonly (Uint8Array | string)[]): Buffer {
  const info = Buffer.concat(context.map((item) => Buffer.from(item as Uint8Array)));
  return Buffer.from(hkdfSync('sha256', secret, 'RATLS', info, KEY_BYTES));
}
