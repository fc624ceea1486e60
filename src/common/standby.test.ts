import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Standby } from './standby.ts';

describe('one that stands by', () => {
  let started: number;
  let starting: Promise<void>;
  const ended = new Set<number>();
  const dismissed: number[] = [];
  let standby: Standby<number>;

  beforeEach(() => {
    mock.timers.enable({ apis: ['setTimeout'] });
    started = 0;
    starting = Promise.resolve();
    ended.clear();
    dismissed.length = 0;
    standby = new Standby({
      start: async () => {
        const one = ++started;
        await starting;
        return one;
      },
      hasEnded: (one) => ended.has(one),
      dismiss: (one) => dismissed.push(one),
    });
  });

  afterEach(() => mock.timers.reset());

  /** Lets the time come at which the next one is started. */
  async function refill(): Promise<void> {
    mock.timers.tick(100);
    await setImmediate();
  }

  it('is started only once the first was used', async () => {
    await refill();
    assert.equal(started, 0);
    assert.deepEqual([await standby.take(), started], [1, 1]);
    mock.timers.tick(99);
    assert.equal(started, 1);
    mock.timers.tick(1);
    assert.equal(started, 2);
  });

  it('is there for the next use, and for one', async () => {
    await standby.take();
    await refill();
    const taken = [standby.take(), standby.take()];
    assert.deepEqual(await Promise.all(taken), [2, 3]);
    await refill();
    assert.deepEqual([await standby.take(), started], [4, 4]);
  });

  it('is not used when it ended meanwhile', async () => {
    await standby.take();
    await refill();
    ended.add(2);
    assert.equal(await standby.take(), 3);
    assert.deepEqual(dismissed, []);
  });

  it('is one, however long the start of another takes', async () => {
    await standby.take();
    const slow = Promise.withResolvers<void>();
    starting = slow.promise;
    await refill();
    const third = standby.take();
    await refill();
    assert.equal(started, 4);
    slow.resolve();
    assert.equal(await third, 3);
    await setImmediate();
    assert.deepEqual([dismissed, await standby.take()], [[4], 2]);
  });

  it('may fail to start: the next use meets what is wrong', async () => {
    await standby.take();
    starting = Promise.reject(new Error('no processes left'));
    starting.catch(() => {});
    await refill();
    await assert.rejects(standby.take(), /no processes left/);
    starting = Promise.resolve();
    assert.equal(await standby.take(), 4);
  });

  it('is let go at the end, and no other one is kept', async () => {
    await standby.take();
    await refill();
    standby.close();
    assert.deepEqual(dismissed, [2]);
    assert.equal(await standby.take(), 3);
    await refill();
    assert.deepEqual([started, dismissed], [3, [2]]);
  });

  it('is let go when it was started while the end came', async () => {
    await standby.take();
    const slow = Promise.withResolvers<void>();
    starting = slow.promise;
    await refill();
    standby.close();
    slow.resolve();
    await setImmediate();
    assert.deepEqual([started, dismissed], [2, [2]]);
  });

  it('is not started any more once the end came before its time', async () => {
    await standby.take();
    standby.close();
    await refill();
    assert.equal(started, 1);
  });
});
