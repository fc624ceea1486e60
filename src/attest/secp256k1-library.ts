import { randomBytes } from 'node:crypto';
import { secp256k1Base64Bytes } from '@bitauth/libauth/build/lib/bin/secp256k1/secp256k1.base64.js';
// Not the package's index, which makes instances of all that is in it.
import {
  CompressionFlag,
  ContextFlag,
  instantiateSecp256k1WasmBytes,
  type Secp256k1Wasm,
} from '@bitauth/libauth/build/lib/bin/secp256k1/secp256k1-wasm.js';

const KEY_BYTES = 32;
const DIGEST_BYTES = 32;
const PUBLIC_KEY_BYTES = 33;
const SIGNATURE_BYTES = 64;
/** What the library keeps a point and a signature in. */
const POINT_BYTES = 64;
const RECOVERABLE_BYTES = 65;
/** The order of the group. */
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

/** libsecp256k1 as WebAssembly, with its memory: constant time, and blinded. Nothing in it waits, so calls do not meet. */
export class Secp256k1 {
  readonly #wasm: Secp256k1Wasm;
  readonly #context: number;
  // Addresses in its memory.
  readonly #key: number;
  readonly #digest: number;
  readonly #point: number;
  readonly #signature: number;
  readonly #output: number;
  readonly #length: number;
  readonly #recovery: number;

  private constructor(wasm: Secp256k1Wasm) {
    this.#wasm = wasm;
    this.#context = wasm.contextCreate(ContextFlag.SIGN);
    this.#key = wasm.malloc(KEY_BYTES);
    this.#digest = wasm.malloc(DIGEST_BYTES);
    this.#point = wasm.malloc(POINT_BYTES);
    this.#signature = wasm.malloc(RECOVERABLE_BYTES);
    this.#output = wasm.malloc(SIGNATURE_BYTES);
    this.#length = wasm.mallocSizeT(0);
    this.#recovery = wasm.mallocSizeT(0);
    const seed = wasm.mallocUint8Array(randomBytes(KEY_BYTES));
    wasm.contextRandomize(this.#context, seed);
  }

  static async load(): Promise<Secp256k1> {
    const program = Buffer.from(secp256k1Base64Bytes, 'base64');
    return new Secp256k1(await instantiateSecp256k1WasmBytes(new Uint8Array(program).buffer));
  }

  /** 33 bytes. @throws RangeError when the private key is none */
  publicKey(privateKey: Uint8Array): Buffer {
    const wasm = this.#wasm;
    this.#withKey(privateKey, () => wasm.pubkeyCreate(this.#context, this.#point, this.#key));
    wasm.heapU32[this.#length / 4] = PUBLIC_KEY_BYTES;
    wasm.pubkeySerialize(this.#context, this.#output, this.#length, this.#point, CompressionFlag.COMPRESSED);
    return Buffer.from(wasm.readHeapU8(this.#output, PUBLIC_KEY_BYTES));
  }

  /** 65 bytes r ‖ s ‖ recovery id. @throws RangeError when key or digest are none */
  sign(privateKey: Uint8Array, digest: Uint8Array): Buffer {
    const wasm = this.#wasm;
    if (digest.length !== DIGEST_BYTES) throw new RangeError('a digest has 32 bytes');
    wasm.heapU8.set(belowOrder(digest), this.#digest);
    this.#withKey(privateKey, () => wasm.signRecoverable(this.#context, this.#signature, this.#digest, this.#key));
    wasm.recoverableSignatureSerialize(this.#context, this.#output, this.#recovery, this.#signature);
    const recovery = wasm.heapU32[this.#recovery / 4]!;
    return Buffer.concat([wasm.readHeapU8(this.#output, SIGNATURE_BYTES), Buffer.of(recovery)]);
  }

  /** Runs what needs a private key and is 1 when that was one; none is left in the library's memory. */
  #withKey(privateKey: Uint8Array, run: () => number): void {
    if (privateKey.length !== KEY_BYTES) throw notAKey();
    const { heapU8 } = this.#wasm;
    heapU8.set(privateKey, this.#key);
    const done = run();
    heapU8.fill(0, this.#key, this.#key + KEY_BYTES);
    if (done !== 1) throw notAKey();
  }
}

/** A digest modulo the order, which RFC 6979 makes the nonce from; the library makes it from what it is given. */
function belowOrder(digest: Uint8Array): Uint8Array {
  if (digest[0] !== 0xff) return digest;
  const number = BigInt(`0x${Buffer.from(digest).toString('hex')}`) % ORDER;
  return Buffer.from(number.toString(16).padStart(2 * DIGEST_BYTES, '0'), 'hex');
}

function notAKey(): RangeError {
  return new RangeError('not a secp256k1 private key');
}
