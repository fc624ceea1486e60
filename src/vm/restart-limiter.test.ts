import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RestartLimiter } from './restart-limiter.ts';

const started = '2026-01-01T00:00:00.000Z';
const soon = Date.parse(started) + 1000;
const later = Date.parse(started) + 3_600_000;

describe('restart limiter', () => {
  it('gives up on a guest that reboots at once five times in a row', () => {
    const limiter = new RestartLimiter();
    const answers = Array.from({ length: 5 }, () => limiter.mayRestart('vm', started, soon));
    assert.deepEqual(answers, [true, true, true, true, false]);
  });

  it('counts anew after a life of some length, or an action of the owner', () => {
    const limiter = new RestartLimiter();
    for (let n = 0; n < 4; n++) limiter.mayRestart('vm', started, soon);
    assert.equal(limiter.mayRestart('vm', started, later), true);
    for (let n = 0; n < 4; n++) assert.equal(limiter.mayRestart('vm', started, soon), true);
    limiter.forget('vm');
    assert.equal(limiter.mayRestart('vm', started, soon), true);
  });
});
