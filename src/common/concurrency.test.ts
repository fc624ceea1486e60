import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import { Admission, forEachLimited, Serial } from './concurrency.ts';

describe('Serial', () => {
  it('runs one task of a key at a time, in order, whatever became of the one before', async () => {
    const serial = new Serial<string>();
    const events: string[] = [];
    const task = (name: string, fail = false) =>
      serial.run('vm', async () => {
        events.push(`${name} begins`);
        await tick();
        events.push(`${name} ends`);
        if (fail) throw new Error(name);
      });
    const results = await Promise.allSettled([task('a'), task('b', true), task('c')]);
    assert.deepEqual(
      results.map((result) => result.status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    assert.deepEqual(events, ['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  });

  it('runs different keys side by side', async () => {
    const serial = new Serial<number>();
    const first = Promise.withResolvers<void>();
    const waiting = serial.run(1, () => first.promise);
    assert.equal(await serial.run(2, async () => 'done'), 'done');
    first.resolve();
    await waiting;
  });

  it('tells which keys are busy', async () => {
    const serial = new Serial<number>();
    const task = serial.run(1, () => tick());
    assert.deepEqual([serial.isBusy(1), serial.isBusy(2)], [true, false]);
    await task;
    await serial.idle();
    assert.equal(serial.isBusy(1), false);
  });

  it('has a task that yields told when another is wanted, before its turn or in it', async () => {
    const serial = new Serial<number>();
    const begun = Promise.withResolvers<void>();
    const yielding = () =>
      serial.runYielding(1, async (wanted) => {
        begun.resolve();
        if (!wanted.aborted) await once(wanted, 'abort');
        return 'yielded';
      });
    const inItsTurn = yielding();
    await begun.promise;
    await serial.run(2, async () => {});
    assert.equal(await Promise.race([inItsTurn, tick('goes on')]), 'goes on');
    const other = serial.run(1, async () => 'other');
    assert.deepEqual(await Promise.all([inItsTurn, other]), ['yielded', 'other']);

    const waiting = yielding();
    const next = serial.run(1, async () => 'next');
    assert.deepEqual(await Promise.all([waiting, next]), ['yielded', 'next']);
  });

  it('does not tell a task that yields of those before it', async () => {
    const serial = new Serial<number>();
    const before = serial.run(1, () => tick());
    assert.equal(await serial.runYielding(1, async (wanted) => wanted.aborted), false);
    await before;
  });

  it('tells when nothing runs any more', async () => {
    const serial = new Serial<number>();
    let ended = false;
    void serial.run(1, async () => {
      await tick();
      ended = true;
    });
    await serial.idle();
    assert.equal(ended, true);
  });
});

describe('Admission', () => {
  it('never admits more than its limit, and everybody in the end, first come first served', async () => {
    const admission = new Admission(2);
    let running = 0;
    let most = 0;
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 9 }, (_, index) =>
        admission.run(async () => {
          order.push(index);
          most = Math.max(most, ++running);
          await tick();
          running--;
        }),
      ),
    );
    assert.equal(most, 2);
    assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it('gives the place of a failed task on', async () => {
    const admission = new Admission(1);
    await assert.rejects(admission.run(async () => Promise.reject(new Error('no'))));
    assert.equal(await admission.run(async () => 7), 7);
  });

  it('gives the place of a task on that leaves before its end, once', async () => {
    const admission = new Admission(1);
    const slow = Promise.withResolvers<void>();
    const first = admission.run((leave) => {
      leave();
      leave();
      return slow.promise;
    });
    let running = 0;
    let most = 0;
    const others = Array.from({ length: 3 }, () =>
      admission.run(async () => {
        most = Math.max(most, ++running);
        await tick();
        running--;
      }),
    );
    await Promise.all(others);
    assert.equal(most, 1);
    slow.resolve();
    await first;
    assert.equal(await admission.run(async () => 'in'), 'in');
  });
});

describe('forEachLimited', () => {
  it('takes all items in order, as many at a time as allowed', async () => {
    let running = 0;
    let most = 0;
    const order: number[] = [];
    await forEachLimited([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
      order.push(item);
      most = Math.max(most, ++running);
      await tick();
      running--;
    });
    assert.deepEqual([order, most, running], [[1, 2, 3, 4, 5, 6, 7], 3, 0]);
  });

  it('rejects with a failure and begins no more', async () => {
    const begun: number[] = [];
    const failing = forEachLimited([1, 2, 3, 4, 5], 2, async (item) => {
      begun.push(item);
      await tick();
      if (item === 1) throw new Error('one');
    });
    await assert.rejects(failing, /one/);
    await tick();
    await tick();
    assert.deepEqual(begun, [1, 2]);
  });
});
