import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { newMarker, ResultFrameReader } from './result-frame.ts';

const marker = newMarker();

function frame(payload: string, length = Buffer.byteLength(payload)): Buffer {
  return Buffer.from(`${marker}${length.toString(16).padStart(8, '0')}${payload}`);
}

function read(maxPayload: number, ...chunks: readonly Buffer[]) {
  const kept: Buffer[] = [];
  const keep = (chunk: Buffer): unknown => kept.push(chunk);
  const reader = new ResultFrameReader(marker, maxPayload);
  for (const chunk of chunks) reader.push(chunk, keep);
  reader.end(keep);
  return { text: Buffer.concat(kept).toString('utf8'), ...reader.result() };
}

const unreadable = { name: 'Error', message: 'The result of the program could not be read' };

describe('ResultFrameReader', () => {
  test('finds the frame however the stream is cut, and keeps all else', () => {
    const text = fc.string({ unit: fc.constantFrom('a', '\x1e', 'r', '\n', 'ü') });
    fc.assert(
      fc.property(text, text, fc.json(), fc.integer({ min: 1, max: 40 }), (before, after, value, step) => {
        const all = Buffer.concat([Buffer.from(before), frame(`${value}\n`), Buffer.from(after)]);
        const chunks = Array.from({ length: Math.ceil(all.length / step) }, (_, index) =>
          all.subarray(index * step, (index + 1) * step),
        );
        assert.deepEqual(read(1e6, ...chunks), { text: before + after, result: value, error: null });
      }),
    );
  });

  test('no frame: everything is kept', () => {
    const text = `almost ${marker.slice(0, 20)}`;
    assert.deepEqual(read(100, Buffer.from(text)), { text, result: null, error: null });
  });

  test('a frame with a result and an error', () => {
    assert.deepEqual(read(100, frame('1\n"x"')), { text: '', result: '1', error: '"x"' });
    assert.deepEqual(read(100, frame('\n')), { text: '', result: null, error: null });
  });

  const broken: readonly [name: string, frame: Buffer][] = [
    ['longer than allowed', frame('123456789\n')],
    ['cut short', frame('1\n', 5)],
    ['without newline', frame('1')],
    ['with what is not JSON', frame('{\n')],
    ['with an error that is not JSON', frame('1\n{')],
    ['with a length that is none', Buffer.from(`${marker}0000zzzz1\n`)],
  ];
  for (const [name, bytes] of broken) {
    test(`a frame ${name} is told as an error`, () => {
      const { result, error } = read(8, bytes);
      assert.deepEqual([result, JSON.parse(error ?? 'null')], [null, unreadable]);
    });
  }

  test('nesting as deep as it gets passes as text', () => {
    const deep = '['.repeat(200_000) + ']'.repeat(200_000);
    assert.equal(read(1e6, frame(`${deep}\n`)).result, deep);
  });

  test('markers differ', () => {
    assert.notEqual(newMarker(), newMarker());
  });
});
