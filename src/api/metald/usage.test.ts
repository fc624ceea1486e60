import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { pino } from 'pino';
import { sampleVm } from '../../vm/testing/sample-vm.ts';
import { UsageSamples } from './usage.ts';

const log = pino({ level: 'silent' });
const noDevices = { residentBytes: 0, disks: [], nics: [] };

/** Samples of processes that have used a second when they are looked at, each look being of another process. */
function samplesOf(clock: () => number) {
  let pid = 0;
  const usage = async () => ({ ...noDevices, pid: ++pid, cpuMicros: 1e6 });
  return new UsageSamples({ usage } as never, clock, log);
}

describe('what a VM uses', () => {
  const started = Date.UTC(2026, 0, 1);
  const vm = sampleVm(1, { state: 'running', cpus: 1, startedAt: new Date(started).toISOString() });

  it('is looked up once a second, for however many ask', async () => {
    let now = started + 4000;
    const samples = samplesOf(() => now);
    const [one, other] = await Promise.all([samples.of(vm), samples.of(vm)]);
    assert.deepEqual([one?.usage.pid, other?.usage.pid, one?.cpuPercent, one?.uptimeSeconds], [1, 1, 25, 4]);
    now += 1000;
    assert.equal((await samples.of(vm))?.usage.pid, 2);
  });

  it('is that of the process it has by now, a moment after it was started again', async () => {
    const samples = samplesOf(() => started + 4000);
    assert.equal((await samples.of(vm))?.usage.pid, 1);
    const again = { ...vm, startedAt: new Date(started + 3500).toISOString() };
    const sample = await samples.of(again);
    assert.deepEqual([sample?.usage.pid, sample?.uptimeSeconds], [2, 0]);
  });

  it('is nothing without a process', () => {
    assert.equal(samplesOf(() => started).of({ ...vm, state: 'stopped' }), null);
  });
});
