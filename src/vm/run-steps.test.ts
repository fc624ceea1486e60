import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { finishSteps, runSteps, type Step, undoSteps } from './run-steps.ts';

const log = pino({ level: 'silent' });

/** A step that notes what is asked of it; `failing` names the calls that throw. */
function noted(
  name: string,
  calls: string[],
  failing: readonly string[] = [],
  extra: Partial<Step<null>> = {},
): Step<null> {
  const note = (what: string) => async () => {
    calls.push(`${name}.${what}`);
    if (failing.includes(what)) throw new Error(`${name}.${what}`);
  };
  return { name, run: note('run'), undo: note('undo'), ...extra };
}

describe('steps', () => {
  it('run in order', async () => {
    const calls: string[] = [];
    const timings = await runSteps('create', [noted('a', calls), noted('b', calls)], null, log);
    assert.deepEqual(calls, ['a.run', 'b.run']);
    assert.deepEqual(
      timings.map((timing) => timing.name),
      ['a', 'b'],
    );
  });

  it('are undone in reverse, the failed one first, and the failure is thrown', async () => {
    const calls: string[] = [];
    const plan = [noted('a', calls), noted('b', calls, ['run']), noted('c', calls)];
    await assert.rejects(runSteps('create', plan, null, log), /b\.run/);
    assert.deepEqual(calls, ['a.run', 'b.run', 'b.undo', 'a.undo']);
  });

  it('in branches run side by side, and what follows waits for all of them', async () => {
    const calls: string[] = [];
    const slow = noted('slow', calls, [], {
      run: async () => {
        await sleep(5);
        calls.push('slow.run');
      },
    });
    const plan = [{ branches: [[slow, noted('b', calls)], [noted('c', calls)]] }, noted('d', calls)];
    const timings = await runSteps('create', plan, null, log);
    assert.deepEqual(calls, ['c.run', 'slow.run', 'b.run', 'd.run']);
    assert.deepEqual(timings.map(({ name }) => name).sort(), ['b', 'c', 'd', 'slow']);
  });

  it('in branches are all undone when one fails, once the others have ended', async () => {
    const calls: string[] = [];
    const slow = noted('slow', calls, [], {
      run: async () => {
        await sleep(5);
        calls.push('slow.run');
      },
    });
    const plan = [noted('a', calls), { branches: [[noted('b', calls, ['run'])], [slow]] }, noted('d', calls)];
    await assert.rejects(runSteps('create', plan, null, log), /b\.run/);
    assert.deepEqual(calls, ['a.run', 'b.run', 'slow.run', 'slow.undo', 'b.undo', 'a.undo']);
  });

  it('are all undone even when one cannot be', async () => {
    const calls: string[] = [];
    const clean = await undoSteps('create', [noted('a', calls), noted('b', calls, ['undo'])], null, log);
    assert.deepEqual(calls, ['b.undo', 'a.undo']);
    assert.equal(clean, false);
  });

  it('that are not needed are neither run nor undone', async () => {
    const calls: string[] = [];
    const plan = [noted('a', calls, [], { needed: () => false }), noted('b', calls, ['run'])];
    await assert.rejects(runSteps('create', plan, null, log));
    assert.deepEqual(calls, ['b.run', 'b.undo']);
  });

  it('that are done already are left alone when an operation is finished', async () => {
    const calls: string[] = [];
    const done = async () => true;
    await finishSteps([noted('a', calls, [], { check: done }), noted('b', calls)], null);
    assert.deepEqual(calls, ['b.run']);
  });
});
