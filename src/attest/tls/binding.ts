import { sha512 } from '../hash.ts';

/** The report data of a quote that binds a TLS key: SHA-512("ratls-cert:" ‖ SubjectPublicKeyInfo). */
export function keyBinding(publicKey: Uint8Array): Buffer {
  return sha512('ratls-cert:', publicKey);
}
