import { createHmac } from 'node:crypto';

const SALT = 'RATLS';

/**
 * The key derivation of all app keys: 32 bytes of HKDF-SHA256 (RFC 5869), salt "RATLS", info the plain concatenation of
 * `context`. No separators: ("a", "b") and ("ab") give the same key, so whoever derives keys keeps contexts apart.
 *
 * One block of output is two HMACs. Node's own HKDF takes no info of more than 1024 bytes, and paths of keys may be longer.
 */
export function deriveKey(secret: Uint8Array, context: readonly (Uint8Array | string)[]): Buffer {
  return expandKey(extractKey(secret), context);
}

/** The first half of {@link deriveKey}, 32 secret bytes, which whoever derives many keys from one secret keeps. */
export function extractKey(secret: Uint8Array): Buffer {
  return createHmac('sha256', SALT).update(secret).digest();
}

/** The second half of {@link deriveKey}. */
export function expandKey(extracted: Uint8Array, context: readonly (Uint8Array | string)[]): Buffer {
  const hmac = createHmac('sha256', extracted);
  for (const item of context) hmac.update(item);
  return hmac.update(Buffer.of(1)).digest();
}
