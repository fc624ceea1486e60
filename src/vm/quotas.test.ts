import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BerthError } from '../common/errors.ts';
import type { Quotas, Vm, VmState } from './model.ts';
import { checkSize, checkTotals } from './quotas.ts';

const quotas: Quotas = {
  maxVms: 3,
  maxSnapshots: 10,
  maxCpusPerVm: 4,
  minMemoryMiBPerVm: 128,
  maxMemoryMiBPerVm: 1024,
  maxDiskMiBPerVm: 2000,
  totalCpus: 4,
  totalMemoryMiB: 1000,
  totalDiskMiB: 3000,
  tenant: { maxVms: 2, totalCpus: 3, totalMemoryMiB: 600, totalDiskMiB: 2000 },
};

const size = { cpus: 1, memoryMiB: 256, diskMiB: 1000 };

function vm(id: string, state: VmState, change: Partial<Vm> = {}): Vm {
  return { id, state, ...size, ...change } as Vm;
}

describe('size of one VM', () => {
  for (const [name, change] of [
    ['no cpu', { cpus: 0 }],
    ['half a cpu', { cpus: 1.5 }],
    ['too many cpus', { cpus: 5 }],
    ['too little memory', { memoryMiB: 127 }],
    ['too much memory', { memoryMiB: 1025 }],
    ['memory that is no number', { memoryMiB: Number.NaN }],
    ['too much disk', { diskMiB: 2001 }],
  ] as const) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => checkSize({ ...size, ...change }, quotas),
        (error) => error instanceof BerthError && error.code === 'invalid_argument',
      );
    });
  }

  it('accepts the limits themselves', () => {
    checkSize({ cpus: 4, memoryMiB: 1024, diskMiB: 2000 }, quotas);
    checkSize({ cpus: 1, memoryMiB: 128, diskMiB: 1 }, quotas);
  });
});

describe('totals', () => {
  const refusal = (setting: string) => (error: unknown) =>
    error instanceof BerthError && error.code === 'quota_exceeded' && error.params.setting === setting;

  it('count VMs in every state', () => {
    const vms = [vm('a', 'stopped'), vm('b', 'failed'), vm('c', 'created')];
    assert.throws(() => checkTotals(vms, { ...size, diskMiB: 0 }, quotas, { active: false }), refusal('maxVms'));
  });

  it('count processors and memory of active VMs only', () => {
    const vms = [vm('a', 'stopped', { cpus: 4, memoryMiB: 1000 })];
    checkTotals(vms, size, quotas, { active: true });
    for (const state of ['starting', 'running', 'paused', 'stopping'] as const) {
      assert.throws(
        () => checkTotals([vm('a', state, { cpus: 4 })], size, quotas, { active: true }),
        refusal('totalCpus'),
      );
      assert.throws(
        () => checkTotals([vm('a', state, { memoryMiB: 800 })], size, quotas, { active: true }),
        refusal('totalMemoryMiB'),
      );
    }
    checkTotals([vm('a', 'running', { cpus: 4 })], size, quotas, { active: false });
  });

  it('count disks of all VMs, and leave the VM out whose size changes', () => {
    const vms = [vm('a', 'stopped', { diskMiB: 1500 }), vm('b', 'stopped', { diskMiB: 1500 })];
    assert.throws(() => checkTotals(vms, size, quotas, { active: false }), refusal('totalDiskMiB'));
    checkTotals(vms, { ...size, diskMiB: 1500 }, quotas, { active: false, exceptId: 'b' });
  });
});
