import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** Polls until `condition` holds; fails after two minutes, which no healthy machine needs. */
export async function eventually(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await condition()) return;
    await sleep(200);
  }
  assert.fail(`did not happen: ${what}`);
}
