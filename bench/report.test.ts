import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { quantity, summarize, table, times } from './report.ts';

describe('bench report', () => {
  it('takes percentiles from the sorted values', () => {
    const values = Array.from({ length: 100 }, (_, n) => 100 - n);
    assert.deepEqual(summarize(values), { n: 100, p50: 50, p95: 95, p99: 99 });
    assert.deepEqual(summarize([7]), { n: 1, p50: 7, p95: 7, p99: 7 });
  });

  it('compares times with the floor of the same run', () => {
    const floor = { what: 'bare', ms: [100, 100, 100] };
    assert.equal(times({ what: 'x', ms: [110, 120, 110], floor, atMost: { ratio: 1.15 } }).met, true);
    const missed = times({ what: 'x', ms: [110, 120, 120], floor, atMost: { ratio: 1.15 } });
    assert.deepEqual([missed.met, missed.ratio], [false, '1.20, p99 1.20']);
    assert.equal(times({ what: 'x', ms: [6, 6, 1], atMost: { ms: 5 } }).met, false);
  });

  it('is missed when nothing was measured', () => {
    assert.equal(times({ what: 'x', ms: [], atMost: { ms: 5 } }).met, false);
    assert.equal(quantity({ what: 'x', value: Number.NaN, unit: '/s', atLeast: 1 }).met, false);
  });

  it('knows rates from sizes', () => {
    const rate = quantity({ what: 'x', value: 500, unit: '/s', floor: { what: 'bare', value: 1000 }, atLeast: 600 });
    assert.deepEqual([rate.met, rate.ratio, rate.target], [false, '2.00', 'at least 600/s']);
    const size = quantity({ what: 'x', value: 100, unit: ' MB', floor: { what: 'empty', value: 50 }, atMost: 120 });
    assert.deepEqual([size.met, size.ratio, size.target], [true, '2.00', 'at most 120 MB']);
  });

  it('prints one Markdown table', () => {
    const lines = table([
      times({ what: 'a', ms: [1] }),
      quantity({ what: 'b', value: 2, unit: '/s', atLeast: 3 }),
    ]).split('\n');
    assert.equal(lines.length, 4);
    assert.deepEqual(new Set(lines.map((line) => line.length)).size, 1);
    assert.match(lines[2]!, /^\| a +\| 1 +\| 1\.00 ms +\| 1\.00 ms +\| 1\.00 ms +\|/);
    assert.match(lines[3]!, /\| at least 3\/s +\| NO +\|$/);
  });
});
