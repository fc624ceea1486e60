import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseJson } from './json.ts';

describe('JSON from outside', () => {
  it('is read as it is', () => {
    for (const value of [null, 1, 'text', { a: [true, { b: 'ü🙂' }] }])
      assert.deepEqual(parseJson(JSON.stringify(value)), value);
    assert.equal(parseJson('"\\ud83d\\ude42"'), '🙂');
    assert.equal(parseJson('"\\\\ud800"'), '\\ud800');
  });

  it('has no halves of characters, wherever they are', () => {
    for (const half of ['"\\ud800"', '"\\uDFFF"', '"\\ude42\\ud83d"', '["a", {"b": "c\\udabc"}]', '{"a\\ud800": 1}'])
      assert.throws(() => parseJson(half), SyntaxError, half);
  });

  it('may be as deep as its reader can take', () => {
    const depth = 2000;
    assert.throws(() => parseJson(`${'['.repeat(depth)}"\\ud800"${']'.repeat(depth)}`), /Unicode/);
  });

  it('is refused when it is none', () => {
    assert.throws(() => parseJson('{'), SyntaxError);
  });
});
