import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../common/testing/until.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small } from './testing/fake-fixtures.ts';
import type { FakeHost } from './testing/fake-host.ts';

describe('VM service when things fail', () => {
  let host: FakeHost;
  let vms: Vms;

  /** A daemon that comes after this one on the same data directory. */
  const reopen = daemonPerTest((daemon) => ({ host, vms } = daemon));

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

  describe('that wait for a guest to end', () => {
    /** A VM whose guest is asked to end, and does not. */
    async function stuck(): Promise<{ readonly id: string; readonly stopping: Promise<unknown> }> {
      const { id } = await vms.create(small);
      host.waiting.set('waitForExit', new Promise(() => {}));
      const stopping = vms.stop(id, { graceMs: 600_000 });
      await until('it is being stopped', () => vms.get(id).state === 'stopping');
      await sleep(20);
      return { id, stopping };
    }

    it('go on at once when a stop with force is asked for, which finds what it asked for', async () => {
      const { id, stopping } = await stuck();
      assert.equal((await vms.stop(id, { force: true })).state, 'stopped');
      await stopping;
      await assert.rejects(vms.stop(id, { force: true }), { code: 'wrong_state' });
    });

    it('go on at once when the VM is removed', async () => {
      const { id, stopping } = await stuck();
      await vms.remove(id);
      await stopping;
      assert.deepEqual(vms.list(), []);
    });

    it('go on at once when the daemon closes', async () => {
      const { stopping } = await stuck();
      await vms.close();
      await stopping;
      assert.equal(host.processes.size, 0);
    });
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
    await host.db.write((writer) =>
      writer.run("UPDATE vms SET state = 'paused', started_at = '2026-01-01T00:00:00.000Z'"),
    );
    await reopen();
    assert.ok(startedAt !== null);
    assert.deepEqual([vms.get(id).state, vms.get(id).startedAt], ['running', '2026-01-01T00:00:00.000Z']);
  });

  it('leaves a VM running that was resumed while its fork, which fails, waited for that', async () => {
    const { id } = await vms.create(small);
    await vms.pause(id);
    const resumed = vms.resume(id);
    host.failing.add('capture');
    await assert.rejects(vms.fork(id, 1), /capture fails/);
    assert.equal(vms.get(id).state, 'running');
    await resumed;
  });

  it('makes no disk smaller', async () => {
    const { id } = await vms.create({ ...small, diskMiB: 9 });
    await vms.stop(id);
    await assert.rejects(vms.resize(id, { diskMiB: 8, cpus: 2 }), { code: 'invalid_argument' });
    assert.deepEqual([vms.get(id).diskMiB, vms.get(id).cpus], [9, 1]);
  });

  it('keeps the size of a VM whose disk could not grow', async () => {
    const { id, diskMiB } = await vms.create(small);
    await vms.stop(id);
    const [layer] = (await readdir(join(host.home, 'vms', id))).filter((name) => name.startsWith('layer-'));
    await rm(join(host.home, 'vms', id, String(layer)));
    await assert.rejects(vms.resize(id, { diskMiB: diskMiB + 1, memoryMiB: 128 }));
    await reopen();
    assert.deepEqual([vms.get(id).diskMiB, vms.get(id).memoryMiB], [diskMiB, 64]);
  });

  it('does not give two VMs that start at once what is left for one', async () => {
    const [one, two] = [await vms.create({ ...small, start: false }), await vms.create({ ...small, start: false })];
    await reopen({ quotas: { totalMemoryMiB: 64 } });
    const results = await Promise.allSettled([vms.start(one.id), vms.start(two.id)]);
    assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
    assert.equal(host.processes.size, 1);
  });

  it('lets VMs boot while others never come up', async () => {
    const never = Promise.withResolvers<void>();
    host.waiting.set('ready', never.promise);
    const stuck = [vms.create(small), vms.create(small)];
    await until('both have a process', () => host.processes.size === 2);
    host.waiting.clear();
    assert.equal((await vms.create(small)).state, 'running');
    never.resolve();
    await Promise.all(stuck);
  });

  it('takes VMs down that were just starting, and lets none in after them', async () => {
    const starting = vms.create(small);
    await until('it is there', () => vms.list().length > 0);
    const late = vms.create(small);
    const stopped = vms.stopAll();
    await assert.rejects(late, { code: 'shutting_down' });
    await assert.rejects(vms.create(small), { code: 'shutting_down' });
    const { id } = await starting;
    await stopped;
    assert.deepEqual([vms.get(id).state, host.processes.size], ['stopped', 0]);
  });

  it('starts a guest again that restarts, until it does so again and again', async () => {
    const { id } = await vms.create(small);
    const starts = () => host.calls.filter(({ name }) => name === 'start').length;
    for (let restarts = 1; restarts < 5; restarts++) {
      host.end(id, 'reset');
      await until('it starts again', () => starts() > restarts && vms.get(id).state === 'running');
    }
    host.end(id, 'reset');
    await until('it is stopped', () => vms.get(id).state === 'stopped');
    assert.deepEqual([vms.get(id).reason, starts()], ['its guest restarts again and again', 5]);
    // Somebody who starts it wants to see for himself.
    await vms.start(id);
    host.end(id, 'reset');
    await until('it starts again', () => starts() === 7 && vms.get(id).state === 'running');
  });

  it('starts no guest again that restarts while the daemon ends', async () => {
    const { id } = await vms.create(small);
    const called = (call: string) => host.calls.filter(({ name }) => name === call).length;
    const { promise, resolve } = Promise.withResolvers<void>();
    host.waiting.set('destroy', promise);
    host.end(id, 'reset');
    await until('what is left of it is taken down', () => called('destroy') === 1);
    const closed = vms.close();
    resolve();
    await closed;
    assert.deepEqual([called('start'), vms.get(id).state], [1, 'stopped']);
  });

  describe('with VMs of tenants', () => {
    it('holds each to its quota', async () => {
      const tenant = { maxVms: 1, maxSnapshots: 1, totalCpus: 1, totalMemoryMiB: 64, totalDiskMiB: 10 };
      await reopen({ quotas: { tenant } });
      await vms.create({ ...small, tenant: 'a', start: false });
      await assert.rejects(vms.create({ ...small, tenant: 'a', start: false }), { code: 'quota_exceeded' });
      await vms.create({ ...small, tenant: 'b' });
      await vms.create(small);
      await vms.create(small);
    });
  });
});
