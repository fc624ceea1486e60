import assert from 'node:assert/strict';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, it } from 'node:test';
import { VmStore } from '../store/vm-store.ts';
import { buildDetail } from './reservation.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small } from './testing/fake-fixtures.ts';
import type { FakeHost } from './testing/fake-host.ts';

describe('a VM that is noted and not started', () => {
  let host: FakeHost;
  let vms: Vms;
  const reopen = daemonPerTest((daemon) => ({ host, vms } = daemon));

  beforeEach(async () => {
    await vms.create({ ...small, id: 'new', start: false });
  });
  const files = () => readdir(join(host.home, 'vms'));

  it('has no files of it, and makes them at its first start', async () => {
    assert.deepEqual([vms.get('new').state, await files()], ['created', []]);
    await vms.resize('new', { diskMiB: 2, cpus: 2 });
    assert.deepEqual([(await vms.start('new')).state, await files()], ['running', ['new']]);
    await vms.stop('new');
    assert.equal((await vms.start('new')).state, 'running');
  });

  it('removes it without a trace', async () => {
    await vms.remove('new');
    assert.deepEqual([vms.list(), await files()], [[], []]);
  });

  it('has it as before when its first start fails', async () => {
    host.failing.add('ready');
    await assert.rejects(vms.start('new'), { code: 'boot_failed' });
    assert.deepEqual([vms.get('new').state, await files()], ['created', []]);
    host.failing.clear();
    assert.equal((await vms.start('new')).state, 'running');
  });

  it('has it as before when its first start was cut off', async () => {
    const vm = { ...vms.get('new'), state: 'starting' as const };
    const operation = { vmId: 'new', kind: 'start' as const, detail: buildDetail(null), startedAt: vm.createdAt };
    await new VmStore(host.db).begin(vm, operation);
    await mkdir(join(host.home, 'vms', 'new'));
    await reopen();
    assert.deepEqual([vms.get('new').state, await files()], ['created', []]);
    assert.equal((await vms.start('new')).state, 'running');
  });

  it('wants space for it when it is started', async () => {
    host.reserveMiB = 1e12;
    await vms.create({ ...small, id: 'other', start: false });
    await assert.rejects(vms.create(small), { code: 'insufficient_storage' });
    await assert.rejects(vms.start('new'), { code: 'insufficient_storage' });
    host.reserveMiB = 0;
    assert.equal((await vms.start('new')).state, 'running');
  });

  it('has it after a restart', async () => {
    await reopen();
    assert.equal(vms.get('new').state, 'created');
  });

  it('makes no new disk for one that was started and has lost its own', async () => {
    await vms.start('new');
    await vms.stop('new');
    await rm(join(host.home, 'vms', 'new'), { recursive: true });
    await assert.rejects(vms.start('new'));
    assert.equal(vms.get('new').state, 'stopped');
  });
});
