import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { readLogTail } from './log-tail.ts';

describe('the end of a log', () => {
  let dir: string;
  let path: string;

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'berth-log-'));
    path = join(dir, 'console.log');
  });
  afterEach(() => rm(dir, { recursive: true }));

  const numbered = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}\n`).join('');

  it('is empty while there is none', async () => {
    assert.deepEqual(await readLogTail(path, 10), { lines: [], truncated: false, updatedAt: null });
  });

  it('is its last lines, and says whether there are more', async () => {
    await writeFile(path, 'one\r\ntwo\nthree');
    const { lines, truncated } = await readLogTail(path, 2);
    assert.deepEqual([lines, truncated], [['two', 'three'], true]);
    assert.equal((await readLogTail(path, 3)).truncated, false);
  });

  it('goes on in what was moved away, in the middle of a line too', async () => {
    await writeFile(`${path}.1`, `${numbered(1, 50)}line`);
    await writeFile(path, ` 51\n${numbered(52, 53)}`);
    const { lines, truncated } = await readLogTail(path, 5);
    assert.deepEqual([lines, truncated], [['line 49', 'line 50', 'line 51', 'line 52', 'line 53'], true]);
    assert.equal((await readLogTail(path, 1000)).lines.length, 53);
  });

  it('holds no fragment of a line, and no more than its window', async () => {
    await writeFile(`${path}.1`, 'a'.repeat(300_000));
    await writeFile(path, `b\n${'c'.repeat(1000)}\n`.repeat(200));
    const { lines, truncated } = await readLogTail(path, 1000);
    assert.deepEqual([lines.length, truncated], [399, true]);
    assert.ok(lines.every((line) => line === 'b' || line === 'c'.repeat(1000)));
  });
});
