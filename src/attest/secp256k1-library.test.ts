import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secp256k1 } from './secp256k1-library.ts';

/** The types have it for browsers only. */
const { WebAssembly } = globalThis as unknown as {
  readonly WebAssembly: { readonly Memory: (size: object) => { readonly buffer: ArrayBuffer } };
};

test("no private key is left in the library's memory, nor what was given for one", async (t) => {
  const memories = t.mock.method(WebAssembly, 'Memory').mock;
  const library = await Secp256k1.load();
  const [made] = memories.calls;
  assert.ok(made?.result);
  const memory = Buffer.from(made.result.buffer);
  const key = Buffer.from('8f14e45fceea167a5a36dedd4bea2543c9f0f895fb98ab9159f51fd0297e236d', 'hex');
  const digest = Buffer.alloc(32, 7);
  const assertGone = (bytes: Buffer) => {
    // As it was given, and as a number of the machine.
    for (const form of [bytes, Buffer.from(bytes).reverse()]) assert.equal(memory.indexOf(form.subarray(0, 16)), -1);
  };

  library.publicKey(key);
  assertGone(key);
  const signature = library.sign(key, digest);
  assertGone(key);
  assert.ok(memory.includes(signature.subarray(0, 64)), 'this is the memory that is worked in');

  const noKey = Buffer.alloc(32, 0xfe).fill(0xff, 0, 16);
  assert.throws(() => library.publicKey(noKey), RangeError);
  assert.throws(() => library.sign(noKey, digest), RangeError);
  assert.equal(memory.indexOf(noKey), -1);
});
