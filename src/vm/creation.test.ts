import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { until } from '../common/testing/until.ts';
import type { VmEvent } from './model.ts';
import type { CreateVm } from './request.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small, smallShape } from './testing/fake-fixtures.ts';
import type { FakeHost } from './testing/fake-host.ts';

describe('where a new VM comes from', () => {
  let host: FakeHost;
  let vms: Vms;
  /** Another daemon on the same data directory. */
  const reopen = daemonPerTest((daemon) => ({ host, vms } = daemon));

  const files = async (name: 'vms' | 'snapshots') => (await readdir(join(host.home, name))).sort();
  const called = (name: string) => host.calls.filter((call) => call.name === name).map(({ id }) => id);

  describe('a template', () => {
    it('is built behind the first boot, and cloned from then on', async () => {
      await reopen({ settings: { templates: { build: true, budgetBytes: 1e9 } } });
      assert.equal((await vms.create(small)).startMode, 'boot');
      // Waits for the one that is being built, and builds none itself.
      await vms.warm(smallShape);
      assert.equal((await files('snapshots')).length, 1);
      const clone = await vms.create(small);
      assert.deepEqual([clone.startMode, clone.renewal?.[0]?.name], ['clone', 'clock']);
      assert.equal(called('start').length, 2);
      assert.equal(host.memoryOf.get(clone.id), called('capture')[0]);
    });

    it('is of a VM with no way out that nobody ever sees', async () => {
      const ways: unknown[] = [];
      const seen: VmEvent[] = [];
      vms.onEvent((event) => seen.push(event));
      const lists: number[] = [];
      host.onCall = (_, id) => {
        lists.push(vms.list().length);
        if (host.processes.has(id)) ways.push(host.egressOf.get(id));
      };
      await vms.warm(smallShape);
      assert.ok(lists.length > 0 && ways.length > 0);
      for (const way of ways) assert.deepEqual(way, { outbound: false, allow: [] });
      assert.deepEqual([Math.max(...lists), seen, vms.snapshots()], [0, [], []]);
      assert.deepEqual([host.processes.size, await files('vms')], [0, []]);
    });

    it('serves no VM of another size, or with devices or a start of its own', async () => {
      await vms.warm(smallShape);
      const others: Partial<CreateVm>[] = [
        { cpus: 2 },
        { memoryMiB: 128 },
        { kernelArgs: 'quiet' },
        { nics: [{ name: 'a' }] },
      ];
      for (const other of others) assert.equal((await vms.create({ ...small, ...other })).startMode, 'boot');
      assert.equal((await vms.create({ ...small, start: false })).state, 'created');
      assert.equal((await vms.create(small)).startMode, 'clone');
    });

    for (const code of ['snapshot_damaged', 'snapshot_mismatch', 'boot_failed', 'deadline_exceeded'] as const)
      it(`of which a clone fails with ${code} goes, the VM boots instead, and another is built`, async () => {
        await reopen({ settings: { templates: { build: true, budgetBytes: 1e9 } } });
        await vms.warm(smallShape);
        const [useless] = await files('snapshots');
        host.onCall = (name) => {
          if (name === 'restore') throw new BerthError(code);
        };
        assert.equal((await vms.create(small)).startMode, 'boot');
        host.onCall = () => {};
        await vms.warm(smallShape);
        const now = await files('snapshots');
        assert.deepEqual([now.length, now.includes(useless ?? '')], [1, false]);
        assert.equal((await vms.create(small)).startMode, 'clone');
        assert.equal((await files('vms')).length, 2);
      });

    it('that is of no use to several at one time goes once, and all of them boot', async () => {
      await vms.warm(smallShape);
      host.onCall = (name) => {
        if (name === 'restore') throw new BerthError('snapshot_damaged');
      };
      const made = await Promise.all(Array.from({ length: 4 }, () => vms.create(small)));
      assert.deepEqual(
        made.map(({ startMode }) => startMode),
        ['boot', 'boot', 'boot', 'boot'],
      );
      assert.deepEqual(await files('snapshots'), []);
    });

    it('stays when a VM could not be cloned for a reason that a boot would have as well', async () => {
      await vms.warm(smallShape);
      await reopen({ quotas: { maxVms: 0 } });
      await assert.rejects(vms.create(small), { code: 'quota_exceeded' });
      assert.equal((await files('snapshots')).length, 1);
    });
  });

  describe('a fork', () => {
    it('is copies of one instant, seen all at once', async () => {
      const { id } = await vms.create({ ...small, tenant: 'a', labels: { of: 'all' }, parkAfterSeconds: 9 });
      const seen: number[] = [];
      host.onCall = (call) => {
        if (call === 'become') seen.push(vms.list().length);
      };
      const created: string[] = [];
      vms.onEvent(({ type, vmId }) => type === 'vm.created' && created.push(vmId));
      const copies = await vms.fork(id, 3);
      assert.deepEqual([seen, vms.listOf('a').length], [[1, 1, 1], 4]);
      assert.deepEqual(
        created,
        copies.map((copy) => copy.id),
      );
      for (const { labels, parkAfterSeconds, hidden, state, startMode, snapshotId } of copies)
        assert.deepEqual(
          { labels, parkAfterSeconds, hidden, state, startMode, snapshotId },
          {
            labels: { of: 'all' },
            parkAfterSeconds: 9,
            hidden: false,
            state: 'running',
            startMode: 'restore',
            snapshotId: null,
          },
        );
      assert.deepEqual(
        copies.map((copy) => host.memoryOf.get(copy.id)),
        [id, id, id],
      );
      assert.equal(new Set(vms.list().map(({ addresses }) => addresses.ipv4)).size, 4);
      assert.deepEqual([vms.snapshots(), await files('snapshots')], [[], []]);
    });

    for (const name of ['prepare', 'restore', 'become'] as const)
      it(`is none at all when ${name} fails for the copy in the middle`, async () => {
        const { id } = await vms.create(small);
        let count = 0;
        host.onCall = (call) => {
          if (call === name && ++count === 2) throw new BerthError('boot_failed', { reason: 'it is a test' });
        };
        await assert.rejects(vms.fork(id, 3), { code: 'boot_failed' });
        assert.equal(count, 3);
        assert.deepEqual([vms.list().map((vm) => vm.id), [...host.processes]], [[id], [[id, 'running']]]);
        assert.deepEqual([await files('vms'), await files('snapshots')], [[id], []]);
      });

    it('is none at all when a copy ends before all are there', async () => {
      const { id } = await vms.create(small);
      const ready: string[] = [];
      host.onCall = async (call, copy) => {
        if (call !== 'become') return;
        ready.push(copy);
        if (ready.length < 2) return;
        // The first is complete and hidden by now.
        await until('the spare is complete', () => isComplete(ready[0]!));
        host.end(ready[0]!, 'crashed');
      };
      await assert.rejects(vms.fork(id, 2), { code: 'conflict' });
      assert.deepEqual([vms.list().map((vm) => vm.id), [...host.processes.keys()]], [[id], [id]]);
      assert.deepEqual([await files('vms'), await files('snapshots')], [[id], []]);
    });

    it('leaves nothing for long that could not be taken back at once', async () => {
      await reopen({ quotas: { maxVms: 2 } });
      const { id } = await vms.create(small);
      host.onCall = (call) => {
        if (call === 'become') throw new BerthError('boot_failed', { reason: 'it is a test' });
        if (call === 'destroy' && called('destroy').length < 3) throw new Error('it is not the time');
      };
      await assert.rejects(vms.fork(id, 1), { code: 'boot_failed' });
      // What is left of it takes no room from anybody.
      const other = await vms.create(small);
      await until('it is gone', () => host.db.all('SELECT 1 FROM vms').length === 2);
      assert.deepEqual(await files('vms'), [id, other.id].sort());
    });

    async function isComplete(id: string): Promise<boolean> {
      const row = host.db.get<{ state: string }>('SELECT state FROM vms WHERE id = ?', id);
      return row?.state === 'running';
    }

    it('is none at all when the daemon ends before all are there', async () => {
      const { id } = await vms.create(small);
      const { promise, resolve } = Promise.withResolvers<void>();
      host.onCall = (call) => (call === 'capture' ? promise : undefined);
      const fork = assert.rejects(vms.fork(id, 2), { code: 'shutting_down' });
      await until('a capture begins', () => called('capture').length > 0);
      const closed = vms.close();
      resolve();
      await fork;
      await closed;
      assert.deepEqual([[...host.processes.keys()], await files('vms'), await files('snapshots')], [[id], [id], []]);
    });

    it('is refused as a whole, before the VM stands still for it, where there is no room for all', async () => {
      await reopen({ quotas: { maxVms: 3 } });
      const { id } = await vms.create(small);
      await assert.rejects(vms.fork(id, 3), { code: 'quota_exceeded' });
      assert.deepEqual(called('capture'), []);
      assert.equal((await vms.fork(id, 2)).length, 2);
    });

    it('is refused for a number that is none, and for a VM that does not run or is not there', async () => {
      const { id } = await vms.create(small);
      for (const count of [0, -1, 1.5, 65, Number.NaN])
        await assert.rejects(vms.fork(id, count), { code: 'invalid_argument' });
      await vms.stop(id);
      await assert.rejects(vms.fork(id, 1), { code: 'wrong_state' });
      await assert.rejects(vms.fork('nobody', 1), { code: 'vm_not_found' });
    });
  });

  it('gives a disk room beside what is in the image, unless its size is asked for, and no more again to a copy', async () => {
    await reopen({ settings: { diskHeadroomMiB: 7 } });
    const { id, diskMiB } = await vms.create(small);
    const asked = await vms.create({ ...small, diskMiB: 2 });
    const copy = await vms.create({ ...small, snapshotId: (await vms.snapshot(id)).id });
    assert.deepEqual([diskMiB, asked.diskMiB, copy.diskMiB], [8, 2, 8]);
  });

  it('makes nothing of a snapshot whose removal has begun, and removes it once', async () => {
    const { id } = await vms.create(small);
    const snapshotId = (await vms.snapshot(id)).id;
    const outcomes = await Promise.allSettled([
      vms.removeSnapshot(snapshotId),
      vms.create({ ...small, snapshotId }),
      vms.removeSnapshot(snapshotId),
    ]);
    const told = outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'done'));
    assert.deepEqual(told, ['done', 'snapshot_not_found', 'snapshot_not_found']);
    assert.deepEqual([await files('snapshots'), await files('vms')], [[], [id]]);
  });

  it('makes a snapshot while the guest of another VM never gets its writes done', async () => {
    const [busy, idle] = [await vms.create(small), await vms.create(small)];
    const { promise, reject } = Promise.withResolvers<void>();
    host.onCall = (name, id) => (name === 'sync' && id === busy.id ? promise : undefined);
    const first = vms.snapshot(busy.id);
    await until('the busy guest is asked', () => called('sync').includes(busy.id));
    const second = await vms.snapshot(idle.id);
    assert.deepEqual([second.sourceVmId, called('capture')], [idle.id, [idle.id]]);
    reject(new BerthError('deadline_exceeded', { operation: 'guest sync' }));
    await assert.rejects(first, { code: 'deadline_exceeded' });
    assert.equal(vms.get(busy.id).state, 'running');
    assert.deepEqual(await files('snapshots'), [second.id]);
  });
});
