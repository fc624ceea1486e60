import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import type { CreateVm } from './model.ts';
import { Vms } from './service.ts';
import { FakeHost } from './testing/fake-host.ts';

const small: CreateVm = { cpus: 1, memoryMiB: 64, egress: { outbound: false, allow: [] } };

describe('VM service when things fail', () => {
  let host: FakeHost;
  let vms: Vms;

  beforeEach(async () => {
    host = await FakeHost.create();
    vms = await Vms.open(host.dependencies());
  });
  afterEach(async () => {
    await vms.close();
    await host.remove();
  });

  /** A daemon that comes after this one on the same data directory. */
  async function reopen(): Promise<void> {
    await vms.close();
    vms = await Vms.open(host.dependencies());
  }

  it('leaves nothing of a VM that did not come up', async () => {
    host.failing.add('ready');
    await assert.rejects(vms.create(small), { code: 'boot_failed' });
    assert.deepEqual([vms.list(), host.processes.size, await readdir(join(host.home, 'vms'))], [[], 0, []]);
  });

  it('keeps the leases of a VM whose process could not be ended, until a removal or a later daemon ends it', async () => {
    for (const end of [() => vms.remove('one'), reopen]) {
      host.failing.add('ready').add('destroy');
      await assert.rejects(vms.create({ ...small, id: 'one' }), { code: 'boot_failed' });
      assert.equal(vms.get('one').state, 'failed');
      host.failing.clear();
      const other = await vms.create(small);
      assert.notEqual(other.addresses.ipv4, vms.get('one').addresses.ipv4);
      await vms.remove(other.id);
      await end();
      assert.deepEqual([vms.list(), host.processes.size], [[], 0]);
    }
  });

  it('starts beside a VM that cannot be brought into order, which a later daemon stops', async () => {
    const { id } = await vms.create(small);
    host.failing.add('observe').add('destroy');
    await assert.rejects(vms.stop(id), /fails/);
    assert.equal(vms.get(id).state, 'failed');
    await reopen();
    assert.equal(vms.get(id).state, 'failed');
    host.failing.clear();
    await reopen();
    assert.deepEqual([vms.get(id).state, host.processes.size], ['stopped', 0]);
    assert.equal((await vms.start(id)).state, 'running');
  });

  it('finds a VM running, with its connection, whose process could not be ended', async () => {
    const { id } = await vms.create(small);
    host.failing.add('destroy');
    await assert.rejects(vms.stop(id), /fails/);
    assert.equal(vms.get(id).state, 'running');
    assert.ok(vms.guest(id));
  });

  it('tells the time of the start, not of the adoption, of a VM whose resume was not noted', async () => {
    const { id } = await vms.create(small);
    const { startedAt } = vms.get(id);
    await host.db.updateTable('vms').set({ state: 'paused', started_at: '2026-01-01T00:00:00.000Z' }).execute();
    await reopen();
    assert.ok(startedAt !== null);
    assert.deepEqual([vms.get(id).state, vms.get(id).startedAt], ['running', '2026-01-01T00:00:00.000Z']);
  });

  it('keeps the size of a VM whose disk could not grow', async () => {
    const { id, diskMiB } = await vms.create({ ...small, start: false });
    const [layer] = (await readdir(join(host.home, 'vms', id))).filter((name) => name.startsWith('layer-'));
    await rm(join(host.home, 'vms', id, String(layer)));
    await assert.rejects(vms.resize(id, { diskMiB: diskMiB + 1, memoryMiB: 128 }));
    await reopen();
    assert.deepEqual([vms.get(id).diskMiB, vms.get(id).memoryMiB], [diskMiB, 64]);
  });

  it('does not give two VMs that start at once what is left for one', async () => {
    const [one, two] = [await vms.create({ ...small, start: false }), await vms.create({ ...small, start: false })];
    await vms.close();
    vms = await Vms.open(host.dependencies({ totalMemoryMiB: 64 }));
    const results = await Promise.allSettled([vms.start(one.id), vms.start(two.id)]);
    assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    assert.equal(host.processes.size, 1);
  });

  it('lets VMs boot while others never come up', async () => {
    const never = Promise.withResolvers<void>();
    host.waiting.set('ready', never.promise);
    const stuck = [vms.create(small), vms.create(small)];
    while (host.processes.size < 2) await sleep(1);
    host.waiting.clear();
    assert.equal((await vms.create(small)).state, 'running');
    never.resolve();
    await Promise.all(stuck);
  });

  it('takes VMs down that were just starting, and lets none in after them', async () => {
    const starting = vms.create(small);
    while (vms.list().length === 0) await setImmediate();
    const late = vms.create(small);
    const stopped = vms.stopAll();
    await assert.rejects(late, { code: 'shutting_down' });
    await assert.rejects(vms.create(small), { code: 'shutting_down' });
    const { id } = await starting;
    await stopped;
    assert.deepEqual([vms.get(id).state, host.processes.size], ['stopped', 0]);
  });
});
