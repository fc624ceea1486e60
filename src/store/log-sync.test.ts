import assert from 'node:assert/strict';
import { fdatasync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { until } from '../common/testing/until.ts';
import { LogSync } from './log-sync.ts';

let dir: string;
let path: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'berth-log-sync-'));
  path = join(dir, 'log');
  writeFileSync(path, 'written');
});
afterEach(() => rmSync(dir, { recursive: true }));

/** What a descriptor of this process is of; null when it is closed. */
function linkOf(descriptor: string): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return null;
  }
}

/** Syncs that end when the test says so. */
function slowly() {
  const ends: ((error: Error | null) => void)[] = [];
  const log = new LogSync(path, (_file, done) => ends.push(done));
  return { log, ends };
}

describe('a log on the disk', () => {
  it('is synced once more for all who ask while that is under way', async () => {
    const { log, ends } = slowly();
    const first = log.sync();
    const later = [log.sync(), log.sync(), log.sync()];
    assert.equal(ends.length, 1);
    ends[0]?.(null);
    await first;
    await turn();
    assert.equal(ends.length, 2);
    let isTold = false;
    void Promise.all(later).then(() => {
      isTold = true;
    });
    await turn();
    assert.equal(isTold, false);
    ends[1]?.(null);
    await Promise.all(later);
    assert.equal(ends.length, 2);
  });

  it('is never said to be there again after a sync that failed', async () => {
    const { log, ends } = slowly();
    const before = log.sync();
    ends[0]?.(null);
    await before;
    const outcomes = [log.sync(), log.sync()].map((sync) => assert.rejects(sync, /EIO/));
    ends[1]?.(new Error('EIO'));
    await Promise.all(outcomes);
    await assert.rejects(log.sync(), /EIO/);
    assert.equal(ends.length, 2);
  });

  it('is the file it was told of, and is let go when nobody waits any more', async () => {
    let file = -1;
    const log = new LogSync(path, (descriptor, done) => {
      file = descriptor;
      fdatasync(descriptor, done);
    });
    const synced = log.sync();
    const isOpen = () => readdirSync('/proc/self/fd').some((fd) => linkOf(fd) === path);
    assert.equal(linkOf(String(file)), path);
    log.close();
    await synced;
    await until('the file is let go', () => !isOpen());
  });

  it('fails where there is none', () => {
    assert.throws(() => new LogSync(join(dir, 'none')), /ENOENT/);
  });
});
