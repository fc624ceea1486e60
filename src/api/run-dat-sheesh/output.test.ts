import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { OutputCollector } from './output.ts';

function collect(limit: number, ...chunks: readonly (string | Buffer)[]): OutputCollector {
  const collector = new OutputCollector(limit);
  for (const chunk of chunks) collector.push(Buffer.from(chunk as string));
  return collector;
}

describe('OutputCollector', () => {
  test('text survives any cutting into chunks', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.array(fc.nat(8)), (text, cuts) => {
        const bytes = Buffer.from(text);
        const chunks: Buffer[] = [];
        let at = 0;
        for (const cut of cuts) {
          chunks.push(bytes.subarray(at, at + cut));
          at += cut;
        }
        const collector = collect(bytes.length, ...chunks, bytes.subarray(at));
        assert.equal(collector.text(), bytes.toString('utf8'));
        assert.equal(collector.truncated, false);
      }),
    );
  });

  test('exactly the limit is whole', () => {
    const collector = collect(4, 'ab', 'cd');
    assert.deepEqual([collector.text(), collector.truncated], ['abcd', false]);
  });

  test('one more is cut', () => {
    const collector = collect(4, 'ab', 'cde', 'f');
    assert.deepEqual([collector.text(), collector.truncated], ['abcd', true]);
  });

  test('a character on the limit is left out', () => {
    const collector = collect(4, 'abc', 'ü');
    assert.deepEqual([collector.text(), collector.truncated], ['abc', true]);
  });

  test('what is not UTF-8 is replaced', () => {
    assert.equal(collect(10, Buffer.from([0x61, 0xff, 0x62, 0xc3])).text(), 'a\ufffdb\ufffd');
  });
});
