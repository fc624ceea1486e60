import { secp256k1 } from '@noble/curves/secp256k1';

/**
 * Bits of the table of multiples of the base point. The library's own choice, 8, takes four times as long to compute at
 * the first use, seconds in an emulated VM, and is no faster afterwards.
 */
secp256k1.ProjectivePoint.BASE._setWindowSize(5);

/** secp256k1 as the key service uses it: deterministic (RFC 6979), low-S, with a recovery byte where it says so. */

/** The 33-byte compressed public key. */
export function k256PublicKey(privateKey: Uint8Array): Buffer {
  return Buffer.from(secp256k1.getPublicKey(privateKey, true));
}

/** 65 bytes r ‖ s ‖ recovery id (0 or 1) over a 32-byte digest. */
export function k256SignRecoverable(privateKey: Uint8Array, digest: Uint8Array): Buffer {
  const signature = secp256k1.sign(digest, privateKey);
  return Buffer.concat([signature.toCompactRawBytes(), Buffer.of(signature.recovery)]);
}

/** The compressed public key that made a 65-byte signature over a digest; throws when there is none. */
export function k256Recover(signature: Uint8Array, digest: Uint8Array): Buffer {
  if (signature.length !== 65) throw new RangeError('a recoverable signature has 65 bytes');
  const point = secp256k1.Signature.fromCompact(signature.subarray(0, 64))
    .addRecoveryBit(signature[64]!)
    .recoverPublicKey(digest);
  return Buffer.from(point.toRawBytes(true));
}

/** 64 bytes r ‖ s over a 32-byte digest. */
export function k256Sign(privateKey: Uint8Array, digest: Uint8Array): Buffer {
  return Buffer.from(secp256k1.sign(digest, privateKey).toCompactRawBytes());
}

/** Whether a 64-byte signature over a digest is the key's. Throws when key or signature cannot be one. */
export function k256Verify(publicKey: Uint8Array, digest: Uint8Array, signature: Uint8Array): boolean {
  secp256k1.Signature.fromCompact(signature);
  secp256k1.ProjectivePoint.fromHex(publicKey);
  return secp256k1.verify(signature, digest, publicKey);
}
