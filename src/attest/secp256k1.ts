import type { Secp256k1 } from './secp256k1-library.ts';

/**
 * The private half of secp256k1 as the key service uses it: public keys, and deterministic signatures (RFC 6979 with
 * HMAC-SHA256), low-S, with a recovery byte where it says so. By libsecp256k1, which is loaded when it is first asked: OpenSSL
 * has no fast code for this curve, and a library in JavaScript takes half a second for its first signature in an emulated
 * VM. Checking signatures, which few apps ask the agent for, is in secp256k1-verify.ts.
 */

/** The 33-byte compressed public key. @throws RangeError when the private key is none */
export async function k256PublicKey(privateKey: Uint8Array): Promise<Buffer> {
  return (await library()).publicKey(privateKey);
}

/** 65 bytes r ‖ s ‖ recovery id (0 or 1) over a 32-byte digest. @throws RangeError when key or digest are none */
export async function k256SignRecoverable(privateKey: Uint8Array, digest: Uint8Array): Promise<Buffer> {
  return (await library()).sign(privateKey, digest);
}

/** 64 bytes r ‖ s over a 32-byte digest. @throws RangeError when key or digest are none */
export async function k256Sign(privateKey: Uint8Array, digest: Uint8Array): Promise<Buffer> {
  return (await k256SignRecoverable(privateKey, digest)).subarray(0, 64);
}

let loaded: Promise<Secp256k1> | null = null;

function library(): Promise<Secp256k1> {
  loaded ??= import('./secp256k1-library.ts').then(({ Secp256k1 }) => Secp256k1.load());
  return loaded;
}
