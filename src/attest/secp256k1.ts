import { createECDH, createHmac } from 'node:crypto';

/**
 * The private half of secp256k1 as the key service uses it: deterministic signatures (RFC 6979 with HMAC-SHA256), low-S, with
 * a recovery byte where it says so. Points are OpenSSL's; its own signatures have random nonces and no recovery byte, so
 * nonce and s are computed here. A library in JavaScript needs half a second for its first signature in an emulated VM.
 * Checking signatures, which few apps ask the agent for, is in secp256k1-verify.ts.
 */

/** The order of the group. */
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const SCALAR_BYTES = 32;

/** The 33-byte compressed public key. Throws when the private key is none. */
export function k256PublicKey(privateKey: Uint8Array): Buffer {
  return multiplyBase(privateKey, 'compressed');
}

/** 65 bytes r ‖ s ‖ recovery id (0 or 1) over a 32-byte digest. */
export function k256SignRecoverable(privateKey: Uint8Array, digest: Uint8Array): Buffer {
  const secret = toNumber(privateKey);
  if (privateKey.length !== SCALAR_BYTES || secret === 0n || secret >= ORDER)
    throw new RangeError('not a secp256k1 private key');
  if (digest.length !== SCALAR_BYTES) throw new RangeError('a digest has 32 bytes');
  const hash = toNumber(digest) % ORDER;
  for (const nonce of nonces(privateKey, toBytes(hash))) {
    const point = multiplyBase(nonce, 'uncompressed');
    const x = toNumber(point.subarray(1, 1 + SCALAR_BYTES));
    const s = (inverse(toNumber(nonce)) * (hash + x * secret)) % ORDER;
    // Either has a chance of 2^-128; in the first the recovery byte would need a second bit.
    if (x >= ORDER || s === 0n) continue;
    const isHigh = s > ORDER >> 1n;
    const yIsOdd = point.at(-1)! & 1;
    return Buffer.concat([toBytes(x), toBytes(isHigh ? ORDER - s : s), Buffer.of(isHigh ? yIsOdd ^ 1 : yIsOdd)]);
  }
  throw new Error('there are always more nonces');
}

/** 64 bytes r ‖ s over a 32-byte digest. */
export function k256Sign(privateKey: Uint8Array, digest: Uint8Array): Buffer {
  return k256SignRecoverable(privateKey, digest).subarray(0, 2 * SCALAR_BYTES);
}

/** RFC 6979, 3.2: the nonces to be tried for a private key and a digest below the order, 32 bytes each. */
function* nonces(privateKey: Uint8Array, digest: Buffer): Generator<Buffer, never> {
  let key = Buffer.alloc(SCALAR_BYTES, 0);
  let value = Buffer.alloc(SCALAR_BYTES, 1);
  const update = (...more: readonly Uint8Array[]) => {
    key = hmac(key, value, ...more);
    value = hmac(key, value);
  };
  update(Buffer.of(0), privateKey, digest);
  update(Buffer.of(1), privateKey, digest);
  for (;;) {
    value = hmac(key, value);
    const nonce = toNumber(value);
    if (nonce > 0n && nonce < ORDER) yield value;
    update(Buffer.of(0));
  }
}

/** The point of a scalar: 33 bytes, or 65 with both coordinates. */
function multiplyBase(scalar: Uint8Array, format: 'compressed' | 'uncompressed'): Buffer {
  const ecdh = createECDH('secp256k1');
  ecdh.setPrivateKey(scalar);
  return ecdh.getPublicKey(null, format);
}

/** 1/a by the extended Euclidean algorithm. */
function inverse(a: bigint): bigint {
  let [remainder, next] = [ORDER, a];
  let [factor, nextFactor] = [0n, 1n];
  while (next !== 0n) {
    const quotient = remainder / next;
    [remainder, next] = [next, remainder - quotient * next];
    [factor, nextFactor] = [nextFactor, factor - quotient * nextFactor];
  }
  return factor < 0n ? factor + ORDER : factor;
}

function hmac(key: Uint8Array, ...parts: readonly Uint8Array[]): Buffer<ArrayBuffer> {
  const state = createHmac('sha256', key);
  for (const part of parts) state.update(part);
  return state.digest() as Buffer<ArrayBuffer>;
}

function toNumber(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex') || '0'}`);
}

function toBytes(number: bigint): Buffer {
  return Buffer.from(number.toString(16).padStart(2 * SCALAR_BYTES, '0'), 'hex');
}
