import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shared } from './shared.ts';

test('those who ask while it is made share the next, which begins after that', async () => {
  const begun: PromiseWithResolvers<number>[] = [];
  const ask = shared(() => {
    const one = Promise.withResolvers<number>();
    begun.push(one);
    return one.promise;
  });
  const first = ask();
  await new Promise(setImmediate);
  const waiting = [ask(), ask(), ask()];
  await new Promise(setImmediate);
  assert.equal(begun.length, 1);
  begun[0]!.resolve(1);
  assert.equal(await first, 1);
  await new Promise(setImmediate);
  assert.equal(begun.length, 2);
  begun[1]!.resolve(2);
  assert.deepEqual(await Promise.all(waiting), [2, 2, 2]);
});

test('a failure is told to those who shared it, and to nobody after', async () => {
  let tries = 0;
  const ask = shared(async () => {
    if (++tries === 1) throw new Error('once');
    return tries;
  });
  const [one, two] = [ask(), ask()];
  await assert.rejects(one, /once/);
  await assert.rejects(two, /once/);
  assert.equal(await ask(), 2);
});
