import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DecodeError } from './decode-error.ts';
import { readJson, writeJson } from './json.ts';
import { Empty, emptyMessage } from './message.ts';
import { anyMessage } from './testing/arbitrary.ts';
import { Sample } from './testing/sample.ts';

describe('writeJson', () => {
  test('has every field: zero values, empty lists, null for what is unset', () => {
    assert.equal(
      writeJson(Sample, emptyMessage(Sample)),
      '{"text":"","data":"","flag":false,"count":0,"big":0,"signed":0,"inner":null,"maybe_text":null,"maybe_big":null,' +
        '"maybe_flag":null,"texts":[],"blobs":[],"counts":[],"inners":[]}',
    );
  });

  test('writes bytes in lower-case hexadecimal and 64-bit integers as exact numbers', () => {
    const text = writeJson(Sample, {
      ...emptyMessage(Sample),
      data: Buffer.from('DEADBEEF', 'hex'),
      big: 18446744073709551615n,
      signed: -9223372036854775808n,
      blobs: [Buffer.from([1]), Buffer.from([255])],
    });
    assert.match(text, /"data":"deadbeef"/);
    assert.match(text, /"big":18446744073709551615,"signed":-9223372036854775808,/);
    assert.match(text, /"blobs":\["01","ff"\]/);
  });

  test('is ASCII whatever the text', () => {
    const text = writeJson(Sample, { ...emptyMessage(Sample), text: 'naïve "測試" 🦊\u007f\n' });
    assert.match(text, /"text":"na\\u00efve \\"\\u6e2c\\u8a66\\" \\ud83e\\udd8a\\u007f\\n"/);
    assert.equal(JSON.parse(text).text, 'naïve "測試" 🦊\u007f\n');
  });

  test('writes null for Empty', () => assert.equal(writeJson(Empty, {}), 'null'));
});

describe('readJson', () => {
  test('reads what writeJson wrote', () => {
    fc.assert(
      fc.property(anyMessage(Sample), (value) => {
        const text = writeJson(Sample, value);
        assert.match(text, /^[\x20-\x7e]*$/);
        assert.equal(writeJson(Sample, readJson(Sample, text)), text);
      }),
    );
  });

  test('fills in what is missing or null and ignores what it does not know', () => {
    const text =
      '{"text":null,"texts":null,"inner":null,"maybe_big":null,"swap_size":[{}],"constructor":1,"__proto__":2}';
    assert.equal(writeJson(Sample, readJson(Sample, text)), writeJson(Sample, emptyMessage(Sample)));
  });

  test('takes hexadecimal of either case with any number of prefixes', () => {
    const value = readJson(Sample, '{"data":"0x0xDeAd","blobs":["","0x","00"]}');
    assert.deepEqual(value.data, Buffer.from('dead', 'hex'));
    assert.deepEqual(
      (value.blobs as Uint8Array[]).map((blob) => blob.length),
      [0, 0, 1],
    );
  });

  test('takes 64-bit integers exactly', () => {
    const value = readJson(
      Sample,
      '{"big":18446744073709551615,"maybe_big":9007199254740993,"signed":-9007199254740993}',
    );
    assert.equal(value.big, 18446744073709551615n);
    assert.equal(value.maybe_big, 9007199254740993n);
    assert.equal(value.signed, -9007199254740993n);
  });

  test('takes no integers beyond 2^53 from a long text, where they are not read exactly', () => {
    const long = (big: string) => `{"text":"${'a'.repeat(64 * 1024)}","big":${big}}`;
    assert.equal(readJson(Sample, long('9007199254740991')).big, 9007199254740991n);
    for (const big of ['9007199254740993', '1e30', '18446744073709551615'])
      assert.throws(() => readJson(Sample, long(big)), { name: 'DecodeError', message: 'big: out of range' });
    assert.throws(() => readJson(Sample, long('0.5')), { name: 'DecodeError', message: /expected an integer/ });
  });

  for (const [what, text, reason] of [
    ['text that is not JSON', '{"text":', /invalid JSON/],
    ['a list', '[]', /request: expected an object/],
    ['null', 'null', /request: expected an object/],
    ['a huge number', '1e400', /request: expected an object/],
    ['a number for a string', '{"text":1}', /text: expected a string/],
    ['half a character', '{"text":"a\\ud800"}', /text: not Unicode/],
    ['half a byte', '{"data":"abc"}', /data: odd number/],
    ['other letters', '{"data":"zz"}', /data: not hexadecimal/],
    ['a number for bytes', '{"data":12}', /data: expected a string of hexadecimal/],
    ['text for a boolean', '{"flag":"true"}', /flag: expected true or false/],
    ['a fraction', '{"count":1.5}', /count: expected an integer/],
    ['a negative uint32', '{"count":-1}', /count: out of range/],
    ['a uint32 that is too large', '{"count":4294967296}', /count: out of range/],
    ['a uint64 that is too large', '{"big":18446744073709551616}', /big: out of range/],
    ['a number with an exponent', '{"big":1e30}', /big: expected an integer/],
    ['text for a number', '{"big":"1"}', /big: expected an integer/],
    ['one value for a list', '{"texts":"a"}', /texts: expected an array/],
    ['a wrong element', '{"texts":["a",1]}', /texts\[1\]: expected a string/],
    ['a wrong field inside', '{"inners":[{},{"size":true}]}', /inners\[1\]\.size: expected an integer/],
    ['a list for a message', '{"inner":[]}', /inner: expected an object/],
    ['too long a list', `{"texts":[${'"",'.repeat(65_536)}""]}`, /texts: more than/],
  ] as const)
    test(`refuses ${what}`, () => {
      assert.throws(() => readJson(Sample, text), { name: 'DecodeError', message: reason });
    });

  test('any JSON is read or refused', () => {
    const names = fc.constantFrom(...Object.keys(Sample.fields));
    const near = fc.dictionary(
      names,
      fc.oneof(fc.jsonValue(), fc.string(), fc.double(), fc.dictionary(names, fc.jsonValue())),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          near.map((value) => JSON.stringify(value)),
          fc.string(),
        ),
        (text) => {
          try {
            readJson(Sample, text);
          } catch (error) {
            assert.ok(error instanceof DecodeError, String(error));
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
