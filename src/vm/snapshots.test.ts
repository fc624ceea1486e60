import assert from 'node:assert/strict';
import { readdir, rename, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { until } from '../common/testing/until.ts';
import { layerNames, readChain } from './disk-chain.ts';
import { VmLayout } from './layout.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { ampleQuotas, small, smallShape } from './testing/fake-fixtures.ts';
import type { FakeCall, FakeHost } from './testing/fake-host.ts';

const bytesPerMiB = 1024 * 1024;

describe('snapshots', () => {
  let host: FakeHost;
  let vms: Vms;

  const reopen = daemonPerTest((daemon) => ({ host, vms } = daemon));

  const files = () => readdir(join(host.home, 'snapshots'));

  /** Names of the calls of some kinds that a task makes, in order: those for one VM when it is named. */
  async function callsDuring(task: () => Promise<unknown>, kinds: readonly FakeCall[], id?: string): Promise<string[]> {
    const before = host.calls.length;
    await task();
    const calls = host.calls.slice(before).filter((call) => id === undefined || call.id === id);
    return calls.map(({ name }) => name).filter((name) => kinds.includes(name));
  }

  it('stay while a VM is being made from them, and go afterwards', async () => {
    const { id } = await vms.snapshot((await vms.create(small)).id);
    const { promise, resolve } = Promise.withResolvers<void>();
    host.onCall = (name) => (name === 'restore' ? promise : undefined);
    const creating = vms.create({ ...small, snapshotId: id });
    await until('a VM is restored', () => host.calls.some(({ name }) => name === 'restore'));
    await assert.rejects(vms.removeSnapshot(id), { code: 'snapshot_in_use' });
    resolve();
    assert.equal((await creating).startMode, 'restore');
    await vms.removeSnapshot(id);
    assert.deepEqual([vms.snapshots(), await files()], [[], []]);
    await assert.rejects(vms.removeSnapshot(id), { code: 'snapshot_not_found' });
  });

  it('of clients hold the writes of the guest meanwhile; what copies are made of does not', async () => {
    const { id } = await vms.create(small);
    const during = (task: () => Promise<unknown>) => callsDuring(task, ['freeze', 'capture', 'thaw']);
    assert.deepEqual(await during(() => vms.snapshot(id)), ['freeze', 'capture', 'thaw']);
    assert.deepEqual(await during(() => vms.fork(id, 1)), ['capture']);
    assert.deepEqual(await during(() => vms.warm(smallShape)), ['capture']);
    host.failing.add('capture');
    assert.deepEqual(await during(() => assert.rejects(vms.snapshot(id))), ['freeze', 'capture', 'thaw']);
  });

  it('do not exist for other tenants', async () => {
    const { id, tenant } = await vms.snapshot((await vms.create({ ...small, tenant: 'a' })).id);
    assert.equal(tenant, 'a');
    for (const other of ['b', ''])
      await assert.rejects(vms.create({ ...small, tenant: other, snapshotId: id }), { code: 'snapshot_not_found' });
    assert.equal((await vms.create({ ...small, tenant: 'a', snapshotId: id })).snapshotId, id);
  });

  it('are of one image, and go on with the size they were taken with', async () => {
    const { id } = await vms.snapshot((await vms.create(small)).id);
    for (const wrong of [{ imageId: 'another' }, { cpus: 2 }, { memoryMiB: 65 }])
      await assert.rejects(vms.create({ ...small, ...wrong, snapshotId: id }), { code: 'snapshot_mismatch' });
    assert.equal(vms.list().length, 1);
    const booted = await vms.create({ ...small, memoryMiB: 65, snapshotId: id, restoreMemory: false });
    assert.equal(booted.startMode, 'boot');
  });

  it('of one tenant are at most as many as it may have', async () => {
    const [a, b, own] = [
      await vms.create({ ...small, tenant: 'a' }),
      await vms.create({ ...small, tenant: 'b' }),
      await vms.create(small),
    ];
    await reopen({ quotas: { tenant: { ...ampleQuotas.tenant, maxSnapshots: 1 } } });
    for (const { id } of [a, b]) {
      await vms.snapshot(id);
      await assert.rejects(vms.snapshot(id), { code: 'quota_exceeded', message: /tenant\.maxSnapshots=1/ });
    }
    for (let count = 0; count < 2; count++) await vms.snapshot(own.id);
  });

  it('are at most as many as the quota says, of which those that nobody sees are none', async () => {
    await reopen({ quotas: { maxSnapshots: 1 } });
    await vms.warm({ imageId: 'img-1', cpus: 1, memoryMiB: 65 });
    const { id } = await vms.create(small);
    const first = await vms.snapshot(id);
    await assert.rejects(vms.snapshot(id), { code: 'quota_exceeded' });
    assert.equal((await vms.fork(id, 1)).length, 1);
    await vms.removeSnapshot(first.id);
    assert.notEqual((await vms.snapshot(id)).id, first.id);
  });

  it('count from the moment they are asked for, and no longer when they fail', async () => {
    await reopen({ quotas: { maxSnapshots: 3, tenant: { ...ampleQuotas.tenant, maxSnapshots: 1 } } });
    const tenants = ['a', 'a', 'b', '', '', ''];
    const ids: string[] = [];
    for (const tenant of tenants) ids.push((await vms.create({ ...small, tenant })).id);
    const takeAll = () => Promise.allSettled(ids.map((id) => vms.snapshot(id)));
    host.failing.add('capture');
    await takeAll();
    host.failing.clear();
    const outcomes = await takeAll();
    assert.deepEqual(
      outcomes.map((outcome) =>
        outcome.status === 'fulfilled' ? 'taken' : outcome.reason.message.match(/[\w.]+=\d/)?.[0],
      ),
      ['taken', 'tenant.maxSnapshots=1', 'taken', 'taken', 'maxSnapshots=3', 'maxSnapshots=3'],
    );
    assert.equal(vms.snapshots().length, 3);
  });

  it('are refused where there is no space for the memory beside what is left alone', async () => {
    const memoryMiB = 4096;
    await reopen({ quotas: { maxMemoryMiBPerVm: memoryMiB } });
    const { id } = await vms.create({ ...small, memoryMiB });
    const { bavail, bsize } = await statfs(host.home);
    host.reserveMiB = Math.max(0, Math.floor((bavail * bsize) / bytesPerMiB) - memoryMiB / 2);
    await assert.rejects(vms.snapshot(id), { code: 'insufficient_storage' });
    assert.deepEqual([vms.get(id).state, await files()], ['running', []]);
    host.reserveMiB = 0;
  });

  it('of which making one fails leave nothing, and the VM runs on', async () => {
    const { id } = await vms.create(small);
    host.failing.add('capture');
    await assert.rejects(vms.snapshot(id), /capture fails/);
    assert.deepEqual([vms.get(id).state, vms.snapshots(), await files()], ['running', [], []]);
    const layers = (await readdir(join(host.home, 'vms', id))).filter((name) => name.startsWith('layer-'));
    assert.equal(layers.length, 1);
    host.failing.clear();
    assert.equal(vms.getSnapshot((await vms.snapshot(id)).id).sourceVmId, id);
  });

  it('that cannot be written down leave nothing, and the VM runs on', async () => {
    const { id } = await vms.create(small);
    await host.db.write((writer) =>
      writer.run("CREATE TRIGGER full BEFORE INSERT ON snapshots BEGIN SELECT RAISE(ABORT, 'it is a test'); END"),
    );
    await assert.rejects(vms.snapshot(id), /it is a test/);
    assert.deepEqual([vms.snapshots(), await files()], [[], []]);
    assert.deepEqual(host.db.all('SELECT * FROM operations'), []);
    await host.db.write((writer) => writer.run('DROP TRIGGER full'));
    assert.equal((await vms.create({ ...small, snapshotId: (await vms.snapshot(id)).id })).state, 'running');
  });

  it('of which a layer is missing, or none, are refused before anything starts', async () => {
    const { id } = await vms.create(small);
    await vms.snapshot(id);
    const snapshot = await vms.snapshot(id);
    const dir = join(host.home, 'snapshots', snapshot.id);
    const layers = await layerNames(dir);
    assert.equal(layers.length, 2);
    const prepared = () => host.calls.filter(({ name }) => name === 'prepare' || name === 'start').length;
    const before = prepared();
    for (const layer of layers) {
      const path = join(dir, layer);
      await rename(path, `${path}.away`);
      for (const restoreMemory of [true, false])
        await assert.rejects(vms.create({ ...small, snapshotId: snapshot.id, restoreMemory }), {
          code: 'snapshot_damaged',
        });
      await writeFile(path, 'no layer');
      await assert.rejects(vms.create({ ...small, snapshotId: snapshot.id }), { code: 'snapshot_damaged' });
      await rename(`${path}.away`, path);
    }
    assert.deepEqual([prepared(), vms.list().length, await readdir(join(host.home, 'vms'))], [before, 1, [id]]);
    assert.equal((await vms.create({ ...small, snapshotId: snapshot.id })).startMode, 'restore');
  });

  it('of copies go by the clock that the first guest booted with, however little each host differs', async () => {
    const first = await vms.snapshot((await vms.create(small)).id);
    host.counterKhz *= 1.0015;
    const copy = await vms.create({ ...small, snapshotId: first.id });
    const second = await vms.snapshot(copy.id);
    host.counterKhz *= 1.0015;
    for (const { id } of [first, second])
      await assert.rejects(vms.create({ ...small, snapshotId: id }), { code: 'snapshot_mismatch', message: /clock/ });
    const booted = await vms.create({ ...small, snapshotId: second.id, restoreMemory: false });
    const third = await vms.snapshot(booted.id);
    assert.equal((await vms.create({ ...small, snapshotId: third.id })).startMode, 'restore');
  });

  it('tell their VM the time, which stood still meanwhile', async () => {
    const { id } = await vms.create(small);
    const order = (task: () => Promise<unknown>) => callsDuring(task, ['capture', 'setClock'], id);
    assert.deepEqual(await order(() => vms.snapshot(id)), ['capture', 'setClock']);
    assert.deepEqual(await order(() => vms.fork(id, 1)), ['capture', 'setClock']);
    host.failing.add('capture');
    assert.deepEqual(await order(() => assert.rejects(vms.snapshot(id))), ['capture', 'setClock']);
    host.failing.clear();
    host.failing.add('setClock');
    await vms.snapshot(id);
    assert.equal(vms.snapshots().length, 2);
  });

  it('that fail leave the VM the layer it may be writing to by now, and none that it said it does not', async () => {
    const { id } = await vms.create(small);
    const layout = new VmLayout(host.home);
    const asBefore = await readChain(layout, id);
    host.refusesLayers = true;
    await assert.rejects(vms.snapshot(id), /no such disk/);
    assert.deepEqual([await readChain(layout, id), await layerNames(layout.dir(id))], [asBefore, asBefore.slice(0, 1)]);
    host.refusesLayers = false;
    host.failing.add('attach');
    await assert.rejects(vms.snapshot(id), /attach fails/);
    const [ahead, ...below] = await readChain(layout, id);
    assert.deepEqual([below, vms.get(id).state, await files()], [asBefore, 'running', []]);
    host.failing.clear();
    await vms.snapshot(id);
    assert.deepEqual((await readChain(layout, id)).slice(1), [ahead, ...asBefore]);
    await vms.reboot(id, { force: true });
  });
});
