import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { describe, it } from 'node:test';
import { loadConfig } from './config.ts';
import { hostQuotas } from './quotas.ts';
import type { SettingKey } from './settings.ts';

/** As a daemon on a host with 250 addresses and these settings has them. */
function quotas(settings: Partial<Record<SettingKey, string>>) {
  return hostQuotas(loadConfig({ file: null, env: {}, flags: { home: tmpdir(), ...settings } }), 250);
}

const host = {
  'quota.max_vms': '40',
  'quota.max_snapshots': '81',
  'quota.total_cpus': '18',
  'quota.total_memory_mib': '1003',
  'quota.total_disk_mib': '4000',
} as const;

describe('what VMs may use', () => {
  it('is three quarters of the host for one tenant, rounded down', () => {
    assert.deepEqual(quotas(host).tenant, {
      maxVms: 30,
      maxSnapshots: 60,
      totalCpus: 13,
      totalMemoryMiB: 752,
      totalDiskMiB: 3000,
    });
  });

  it('is something for one tenant on the smallest host', () => {
    const smallest = Object.fromEntries(Object.keys(host).map((key) => [key, '1']));
    const one = { maxVms: 1, maxSnapshots: 1, totalCpus: 1, totalMemoryMiB: 1, totalDiskMiB: 1 };
    assert.deepEqual(quotas(smallest).tenant, one);
  });

  it('is for one tenant what is set, where anything is', () => {
    const set = {
      'quota.tenant_max_vms': '1',
      'quota.tenant_max_snapshots': '2',
      'quota.tenant_total_cpus': '3',
      'quota.tenant_total_memory_mib': '4',
      'quota.tenant_total_disk_mib': '5',
    };
    const wanted = { maxVms: 1, maxSnapshots: 2, totalCpus: 3, totalMemoryMiB: 4, totalDiskMiB: 5 };
    assert.deepEqual(quotas({ ...host, ...set }).tenant, wanted);
  });

  it('is as many VMs as memory and addresses allow, unless that is set', () => {
    const { 'quota.max_vms': _, ...others } = host;
    assert.equal(quotas({ ...others, 'quota.min_memory_mib_per_vm': '100' }).maxVms, 10);
    assert.equal(quotas({ ...others, 'quota.total_memory_mib': '1000000' }).maxVms, 250);
    assert.equal(quotas(host).maxVms, 40);
  });
});
