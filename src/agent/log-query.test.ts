import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readLogQuery } from './log-query.ts';

const now = 1_770_000_000.5;

function read(query: string) {
  return readLogQuery(new URLSearchParams(query), now);
}

describe('readLogQuery', () => {
  test('defaults', () => {
    assert.deepEqual(read(''), {
      since: 0,
      until: 0,
      follow: false,
      timestamps: false,
      tail: 1000,
      bare: false,
      text: false,
      ansi: false,
    });
  });

  for (const [text, seconds] of [
    ['0', 0],
    ['3600', 1_769_996_400],
    ['90s', 1_769_999_910],
    ['30m', 1_769_998_200],
    ['1h', 1_769_996_400],
    ['2d', 1_769_827_200],
    ['0m', 1_770_000_000],
    ['1769000000', 1_769_000_000],
    ['999999999999h', 1],
  ] as const)
    test(`since ${text}`, () => {
      assert.equal(read(`since=${text}`).since, seconds);
      assert.equal(read(`until=${text}`).until, seconds);
    });

  for (const text of ['', 'true', 'yes', 'on', '1'])
    test(`follow=${text} is on`, () => assert.equal(read(`follow=${text}`).follow, true));
  for (const text of ['false', 'no', 'off', '0'])
    test(`follow=${text} is off`, () => assert.equal(read(`follow=${text}`).follow, false));
  test('a bare name is on', () => {
    const { text, bare, timestamps, ansi, tail } = read('text&bare&timestamps&ansi&tail=all');
    assert.deepEqual(
      { text, bare, timestamps, ansi, tail },
      { text: true, bare: true, timestamps: true, ansi: true, tail: 'all' },
    );
  });

  for (const query of [
    'since=yesterday',
    'since=-1',
    'until=1w',
    'since=1.5h',
    'tail=-1',
    'tail=x',
    'tail=',
    'text=maybe',
  ])
    test(`refuses ${query}`, () => {
      assert.throws(() => read(query), { code: 'invalid_argument', message: `Invalid ${query.split('=')[0]}` });
    });
});
