import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { Ledger } from './ledger.ts';
import type { DataDisk, Vm, VmState } from './model.ts';
import { checkSize, checkTotals, type Quotas } from './quotas.ts';
import { sampleVm } from './testing/sample-vm.ts';

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
  tenant: { maxVms: 2, maxSnapshots: 2, totalCpus: 3, totalMemoryMiB: 600, totalDiskMiB: 2000 },
};

const size = { cpus: 1, memoryMiB: 256, diskMiB: 1000, dataDisks: [] };

function disk(sizeMiB: number, readOnly = false): DataDisk {
  return { name: 'data', readOnly, asset: { path: '/assets/data', format: 'raw' }, sizeMiB };
}

function vm(id: string, state: VmState, change: Partial<Vm> = {}): Vm {
  return { ...sampleVm(1), id, state, ...size, ...change };
}

function ledgerOf(vms: readonly Vm[]): Ledger {
  const ledger = new Ledger();
  for (const each of vms) ledger.replace(undefined, each);
  return ledger;
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
    ['too large a data disk', { dataDisks: [disk(2001)] }],
  ] as const) {
    it(`refuses ${name}`, () => {
      assert.throws(
        () => checkSize({ ...size, ...change }, quotas),
        (error) => error instanceof BerthError && error.code === 'invalid_argument',
      );
    });
  }

  it('accepts the limits themselves', () => {
    checkSize({ ...size, cpus: 4, memoryMiB: 1024, diskMiB: 2000 }, quotas);
    checkSize({ ...size, cpus: 1, memoryMiB: 128, diskMiB: 1 }, quotas);
  });
});

describe('totals', () => {
  const refusal = (setting: string) => (error: unknown) =>
    error instanceof BerthError && error.code === 'quota_exceeded' && error.params.setting === setting;

  it('count VMs in every state', () => {
    const vms = [vm('a', 'stopped'), vm('b', 'failed'), vm('c', 'created')];
    assert.throws(
      () => checkTotals(ledgerOf(vms), { ...size, diskMiB: 0 }, quotas, { active: false, tenant: '' }),
      refusal('maxVms'),
    );
  });

  it('count processors and memory of active VMs only', () => {
    const vms = [vm('a', 'stopped', { cpus: 4, memoryMiB: 1000 })];
    checkTotals(ledgerOf(vms), size, quotas, { active: true, tenant: '' });
    for (const state of ['starting', 'running', 'paused', 'stopping'] as const) {
      assert.throws(
        () => checkTotals(ledgerOf([vm('a', state, { cpus: 4 })]), size, quotas, { active: true, tenant: '' }),
        refusal('totalCpus'),
      );
      assert.throws(
        () => checkTotals(ledgerOf([vm('a', state, { memoryMiB: 800 })]), size, quotas, { active: true, tenant: '' }),
        refusal('totalMemoryMiB'),
      );
    }
    checkTotals(ledgerOf([vm('a', 'running', { cpus: 4 })]), size, quotas, { active: false, tenant: '' });
  });

  it('count disks of all VMs, and leave the VM out whose size changes', () => {
    const vms = [vm('a', 'stopped', { diskMiB: 1500 }), vm('b', 'stopped', { diskMiB: 1500 })];
    assert.throws(
      () => checkTotals(ledgerOf(vms), size, quotas, { active: false, tenant: '' }),
      refusal('totalDiskMiB'),
    );
    checkTotals(ledgerOf(vms), { ...size, diskMiB: 1500 }, quotas, { active: false, tenant: '', except: [vms[1]!] });
  });

  it('count disks that are written to, and not those that are only read', () => {
    const vms = [vm('a', 'stopped', { dataDisks: [disk(1000), disk(1000, true)] })];
    checkTotals(ledgerOf(vms), size, quotas, { active: false, tenant: '' });
    const demand = { ...size, dataDisks: [disk(1)] };
    assert.throws(
      () => checkTotals(ledgerOf(vms), demand, quotas, { active: false, tenant: '' }),
      refusal('totalDiskMiB'),
    );
  });
});

describe('totals of a tenant', () => {
  const refusal = (setting: string) => ({ code: 'quota_exceeded', params: { setting } });
  const check = (vms: readonly Vm[], change: Partial<typeof size>, tenant = 'a') => {
    try {
      checkTotals(
        ledgerOf(vms),
        { ...size, diskMiB: 1, ...change },
        { ...quotas, maxVms: 100, totalDiskMiB: 1e6 },
        { active: true, tenant },
      );
      return null;
    } catch (error) {
      return error instanceof BerthError ? { code: error.code, params: { setting: error.params.setting } } : error;
    }
  };
  const other = vm('other', 'stopped', { tenant: 'b', diskMiB: 1999, memoryMiB: 600, cpus: 3 });

  it('are its own, whatever others have', () => {
    assert.equal(check([other, other, other], {}), null);
  });

  it('hold for VMs, disks, processors and memory', () => {
    const own = vm('own', 'running', { tenant: 'a', diskMiB: 1000 });
    assert.deepEqual(check([own, own], {}), refusal('tenant.maxVms'));
    assert.deepEqual(check([own], { diskMiB: 1001 }), refusal('tenant.totalDiskMiB'));
    assert.deepEqual(check([own], { cpus: 3 }), refusal('tenant.totalCpus'));
    assert.deepEqual(check([own], { memoryMiB: 345 }), refusal('tenant.totalMemoryMiB'));
    assert.equal(check([own], { cpus: 2, memoryMiB: 344, diskMiB: 1000 }), null);
  });

  it('do not hold for the host itself', () => {
    const own = vm('own', 'stopped', { tenant: '' });
    assert.equal(check([own, own, own], {}, ''), null);
  });
});
