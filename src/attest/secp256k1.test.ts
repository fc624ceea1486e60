import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { secp256k1 } from '@noble/curves/secp256k1';
import fc from 'fast-check';
import { k256PublicKey, k256Sign, k256SignRecoverable } from './secp256k1.ts';
import { k256Verify } from './secp256k1-verify.ts';
import { k256Recover } from './testing/k256-recover.ts';

const order = secp256k1.CURVE.n;
const bytes = (number: bigint): Buffer => Buffer.from(number.toString(16).padStart(64, '0'), 'hex');
const scalars = fc.bigInt({ min: 1n, max: order - 1n }).map(bytes);
const digests = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((digest) => Buffer.from(digest));

test("keys and signatures are those of the reference library, and the key's", async () => {
  await fc.assert(
    fc.asyncProperty(scalars, digests, async (key, digest) => {
      const signature = await k256SignRecoverable(key, digest);
      const expected = secp256k1.sign(digest, key);
      assert.equal(signature.toString('hex', 0, 64), expected.toCompactHex());
      assert.equal(signature[64], expected.recovery);
      const publicKey = await k256PublicKey(key);
      assert.deepEqual(publicKey, Buffer.from(secp256k1.getPublicKey(key, true)));
      assert.deepEqual(k256Recover(signature, digest), publicKey);
      assert.equal(k256Verify(publicKey, digest, await k256Sign(key, digest)), true);
    }),
    { numRuns: 100 },
  );
});

for (const [what, key, digest] of [
  ['the smallest key', bytes(1n), Buffer.alloc(32, 7)],
  ['the largest key', bytes(order - 1n), Buffer.alloc(32, 7)],
  ['a digest of zeros', bytes(5n), Buffer.alloc(32)],
  ['a digest beyond the order', bytes(5n), Buffer.alloc(32, 0xff)],
  ['the order as digest', bytes(5n), bytes(order)],
] as const)
  test(`${what} gives the signature of the reference library`, async () => {
    const expected = secp256k1.sign(digest, key);
    const signature = await k256SignRecoverable(key, digest);
    assert.equal(signature.toString('hex'), `${expected.toCompactHex()}0${expected.recovery}`);
  });

describe('what is no key or digest is refused', () => {
  for (const [what, key] of [
    ['zero', Buffer.alloc(32)],
    ['the order', bytes(order)],
    ['31 bytes', Buffer.alloc(31, 1)],
    ['33 bytes', Buffer.alloc(33, 1)],
    ['nothing', Buffer.alloc(0)],
  ] as const)
    test(what, async () => {
      await assert.rejects(k256SignRecoverable(key, Buffer.alloc(32, 1)), RangeError);
      await assert.rejects(k256PublicKey(key), RangeError);
    });

  test('a digest of 31 bytes', async () => {
    await assert.rejects(k256Sign(bytes(5n), Buffer.alloc(31, 1)), RangeError);
  });
});
