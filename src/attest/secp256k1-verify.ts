import { secp256k1 } from '@noble/curves/secp256k1';

/** Whether a 64-byte signature over a digest is the key's, and low-S. Throws when key or signature cannot be one. */
export function k256Verify(publicKey: Uint8Array, digest: Uint8Array, signature: Uint8Array): boolean {
  secp256k1.Signature.fromCompact(signature);
  secp256k1.ProjectivePoint.fromHex(publicKey);
  return secp256k1.verify(signature, digest, publicKey);
}
