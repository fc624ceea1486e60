import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { readBinary, writeBinary } from './binary.ts';
import { DecodeError } from './decode-error.ts';
import { emptyMessage } from './message.ts';
import { anyMessage } from './testing/arbitrary.ts';
import { compileProtos, Reference } from './testing/reference.ts';
import { Sample } from './testing/sample.ts';

const reference = new Reference(compileProtos(fileURLToPath(new URL('testing', import.meta.url))), Sample);

/** Bytes and big integers as plain values, to compare messages. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_key, each) =>
      typeof each === 'bigint'
        ? `${each}n`
        : each instanceof Uint8Array
          ? { hex: Buffer.from(each).toString('hex') }
          : each,
    ),
  );
}

describe('beside protobuf-es', () => {
  test('it reads what we write', () => {
    fc.assert(
      fc.property(anyMessage(Sample), (value) => {
        assert.deepEqual(reference.decode(writeBinary(Sample, value)), reference.canonical(value));
      }),
    );
  });

  test('we read what it writes', () => {
    fc.assert(
      fc.property(anyMessage(Sample), (value) => {
        assert.deepEqual(plain(readBinary(Sample, reference.encode(value))), plain(value));
      }),
    );
  });
});

describe('readBinary', () => {
  test('takes unpacked numbers, merges messages, keeps the last of scalars, skips what it does not know', () => {
    const bytes = Buffer.from(
      [
        '6801', // counts: 1, alone
        '6a020203', // counts: 2 and 3, packed
        '2005', // count: 5
        '2007', // count: 7
        '3a030a0161', // inner { name: a }
        '3a021809', // inner { size: 9 }
        'f80701', // 127: a number
        'f90700000000000000ff', // 127: eight bytes
        'fd07000000ff', // 127: four bytes
        'fa0701ff', // 127: one byte
        'fb070801fc07', // 127: a group
      ].join(''),
      'hex',
    );
    assert.deepEqual(plain(readBinary(Sample, bytes)), {
      ...(plain(emptyMessage(Sample)) as object),
      counts: [1, 2, 3],
      count: 7,
      inner: { name: 'a', size: '9n' },
    });
  });

  for (const [what, hex] of [
    ['a number without end', '20ffffffffffffffffffff01'],
    ['a length beyond the end', '0a05'],
    ['a huge length', '0affffffffffffffffff01'],
    ['field number zero', '0001'],
    ['a field number beyond 2^29', '8080808080080'.padEnd(14, '0')],
    ['a wire type that does not exist', '0f'],
    ['the wrong wire type', '0801'],
    ['an end without a group', '0c'],
    ['a group without end', 'fb07'],
    ['text that is not UTF-8', '0a01ff'],
  ] as const)
    test(`refuses ${what}`, () => {
      assert.throws(() => readBinary(Sample, Buffer.from(hex, 'hex')), DecodeError);
    });

  test('refuses groups nested without end', () => {
    assert.throws(() => readBinary(Sample, Buffer.alloc(100_000, 'fb07', 'hex')), DecodeError);
  });

  test('refuses more elements than it would keep', () => {
    assert.throws(() => readBinary(Sample, Buffer.alloc(65_537 * 2, '5a00', 'hex')), /texts: more than/);
  });

  test('any bytes are read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          readBinary(Sample, bytes);
        } catch (error) {
          assert.ok(error instanceof DecodeError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
