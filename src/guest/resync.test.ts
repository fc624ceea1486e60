import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';

import { echo, MAGIC, makeNonce, marker, Seeker, Stuffer } from './resync.ts';

/** Bytes in which parts of the magic are common. */
const bytes = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 20 }),
      fc.constant(MAGIC),
      fc.nat(MAGIC.length).map((length) => MAGIC.subarray(0, length)),
    ),
    { maxLength: 12 },
  )
  .map((parts) => Buffer.concat(parts));

function cut(whole: Buffer, lengths: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let at = 0;
  for (const length of lengths) {
    pieces.push(whole.subarray(at, at + length));
    at += length;
  }
  return [...pieces, whole.subarray(at)];
}

/** What the guest does: drops the byte behind each magic. */
function unstuff(stuffed: Buffer): Buffer {
  const parts: Buffer[] = [];
  let at = 0;
  for (let found = stuffed.indexOf(MAGIC); found >= 0; found = stuffed.indexOf(MAGIC, at)) {
    const end = found + MAGIC.length;
    assert.equal(stuffed[end], 0, 'a magic without stuffing');
    parts.push(stuffed.subarray(at, end));
    at = end + 1;
  }
  return Buffer.concat([...parts, stuffed.subarray(at)]);
}

test('the magic’s first byte occurs in it once, and in no nonce', () => {
  assert.equal(MAGIC.lastIndexOf(MAGIC[0]!), 0);
  assert.equal(makeNonce().indexOf(MAGIC[0]!), -1);
});

test('stuffed data holds no marker and loses nothing, wherever it is cut', () => {
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(30), { maxLength: 20 }), (data, lengths) => {
      const stuffer = new Stuffer();
      const stuffed = Buffer.concat(cut(data, lengths).flatMap((piece) => [...stuffer.push(piece)]));
      assert.ok(unstuff(stuffed).equals(data));
    }),
  );
});

test('a chunk without magic is passed on itself', () => {
  const chunk = Buffer.from('ordinary');
  assert.deepEqual(new Stuffer().push(chunk), [chunk]);
});

test('the echo is found behind anything, wherever it is cut, and only the own one', () => {
  fc.assert(
    fc.property(bytes, bytes, fc.array(fc.nat(30), { maxLength: 20 }), (before, behind, lengths) => {
      const nonce = makeNonce();
      const stream = Buffer.concat([before, echo(makeNonce()), marker(nonce), echo(nonce), behind]);
      const seeker = new Seeker(echo(nonce));
      const received: Buffer[] = [];
      let found = false;
      for (const piece of cut(stream, lengths)) {
        const rest = found ? piece : seeker.push(piece);
        if (rest === null) continue;
        found = true;
        received.push(rest);
      }
      assert.ok(found);
      assert.ok(Buffer.concat(received).equals(behind));
    }),
  );
});
