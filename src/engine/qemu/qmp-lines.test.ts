import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LineSplitter } from './qmp-lines.ts';

test('lines do not depend on how the stream was cut', () => {
  const line = fc.stringMatching(/^[a-zä€]{1,20}$/);
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat(40)), (lines, cuts) => {
      const stream = Buffer.from(lines.map((text) => `${text}\r\n`).join(''));
      const splitter = new LineSplitter(100);
      const found: string[] = [];
      let start = 0;
      for (const cut of cuts) {
        found.push(...splitter.push(stream.subarray(start, start + cut)));
        start += cut;
      }
      found.push(...splitter.push(stream.subarray(start)));
      assert.deepEqual(found, lines);
    }),
  );
});

test('a line may be as long as the limit and no longer, however it comes', () => {
  assert.deepEqual(new LineSplitter(4).push(Buffer.from('abcd\n\nef\n')), ['abcd', 'ef']);
  assert.throws(() => new LineSplitter(4).push(Buffer.from('abcde')), RangeError);
  const splitter = new LineSplitter(4);
  assert.deepEqual(splitter.push(Buffer.from('abc')), []);
  assert.throws(() => splitter.push(Buffer.from('de\n')), RangeError);
});
