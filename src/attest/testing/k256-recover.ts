import { secp256k1 } from '@noble/curves/secp256k1';

/** The compressed public key that made a 65-byte signature over a digest; throws when there is none. */
export function k256Recover(signature: Uint8Array, digest: Uint8Array): Buffer {
  if (signature.length !== 65) throw new RangeError('a recoverable signature has 65 bytes');
  const point = secp256k1.Signature.fromCompact(signature.subarray(0, 64))
    .addRecoveryBit(signature[64]!)
    .recoverPublicKey(digest);
  return Buffer.from(point.toRawBytes(true));
}
