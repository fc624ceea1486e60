import assert from 'node:assert/strict';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';

/** Milliseconds that nothing in a unit test takes. */
const patienceMs = 60_000;
/** Milliseconds in which a condition is looked at whenever anything happened: what is fast may pass by. */
const closelyMs = 200;

/** Waits for what a test cannot be told of; fails, saying what did not happen, when it does not come. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const begun = performance.now();
  while (!(await condition())) {
    const elapsed = performance.now() - begun;
    if (elapsed > patienceMs) assert.fail(`did not happen: ${what}`);
    await (elapsed < closelyMs ? setImmediate() : sleep(5));
  }
}
