import { createECDH, createPrivateKey, type KeyObject } from 'node:crypto';
import { sha256 } from './hash.ts';
import { deriveKey } from './kdf.ts';

const pkcs8Head = Buffer.from('308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420', 'hex');
const pkcs8Middle = Buffer.from('a144034200', 'hex');

/** PKCS#8 DER of a P-256 private key, with its public key. Throws when the scalar is not one. */
function p256Pkcs8(scalar: Uint8Array): Buffer {
  const ecdh = createECDH('prime256v1');
  ecdh.setPrivateKey(scalar);
  return Buffer.concat([pkcs8Head, scalar, pkcs8Middle, ecdh.getPublicKey()]);
}

/** A P-256 private key from its 32-byte scalar. */
export function p256PrivateKey(scalar: Uint8Array): KeyObject {
  return createPrivateKey({ key: p256Pkcs8(scalar), format: 'der', type: 'pkcs8' });
}

/** The P-256 key that is derived from a secret. */
export function deriveP256(secret: Uint8Array, context: readonly (Uint8Array | string)[]): KeyObject {
  return p256PrivateKey(deriveKey(secret, context));
}

/** The 32-byte secret that is derived from a P-256 scalar: SHA-256 of the PKCS#8 DER of the derived key. */
export function deriveSecret(scalar: Uint8Array, context: readonly (Uint8Array | string)[]): Buffer {
  return sha256(p256Pkcs8(deriveKey(scalar, context)));
}

/** The 32-byte scalar of a P-256 private key. */
export function p256Scalar(key: KeyObject): Buffer {
  const { crv, d } = key.export({ format: 'jwk' });
  if (crv !== 'P-256' || d === undefined) throw new RangeError('not a P-256 private key');
  return Buffer.from(d, 'base64url');
}
