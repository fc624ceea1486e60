import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate, setTimeout as sleep } from 'node:timers/promises';
import { VmStore } from '../store/vm-store.ts';
import type { CreateVm } from './request.ts';
import { buildDetail } from './reservation.ts';
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

  describe('that wait for a guest to end', () => {
    /** A VM whose guest is asked to end, and does not. */
    async function stuck(): Promise<{ readonly id: string; readonly stopping: Promise<unknown> }> {
      const { id } = await vms.create(small);
      host.waiting.set('waitForExit', new Promise(() => {}));
      const stopping = vms.stop(id, { graceMs: 600_000 });
      while (vms.get(id).state !== 'stopping') await setImmediate();
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

  it('starts a guest again that restarts, until it does so again and again', async () => {
    const { id } = await vms.create(small);
    const starts = () => host.calls.filter(({ name }) => name === 'start').length;
    for (let restarts = 1; restarts < 5; restarts++) {
      host.end(id, 'reset');
      while (starts() <= restarts || vms.get(id).state !== 'running') await setImmediate();
    }
    host.end(id, 'reset');
    while (vms.get(id).state !== 'stopped') await setImmediate();
    assert.deepEqual([vms.get(id).reason, starts()], ['its guest restarts again and again', 5]);
    // Somebody who starts it wants to see for himself.
    await vms.start(id);
    host.end(id, 'reset');
    while (starts() < 7 || vms.get(id).state !== 'running') await setImmediate();
  });

  describe('with a VM that is noted and not started', () => {
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

  describe('with VMs of tenants', () => {
    it('holds each to its quota', async () => {
      await vms.close();
      const tenant = { maxVms: 1, totalCpus: 1, totalMemoryMiB: 64, totalDiskMiB: 10 };
      vms = await Vms.open(host.dependencies({ tenant }));
      await vms.create({ ...small, tenant: 'a', start: false });
      await assert.rejects(vms.create({ ...small, tenant: 'a', start: false }), { code: 'quota_exceeded' });
      await vms.create({ ...small, tenant: 'b' });
      await vms.create(small);
      await vms.create(small);
    });
  });

  describe('with a VM that brings its own kernel', () => {
    const own: CreateVm = {
      ...small,
      id: 'own',
      guestChannel: 'optional',
      consoleFile: 'out.log',
    };

    beforeEach(async () => {
      for (const name of ['root', 'data', 'read']) await writeFile(join(host.home, 'image', name), name);
      await writeFile(join(host.home, 'image', 'elf'), Buffer.concat([Buffer.from('\x7fELF'), Buffer.alloc(99)]));
    });
    const request = (): CreateVm => ({
      ...own,
      boot: { kernel: join(host.home, 'image', 'elf') },
      disks: [
        { name: 'data', source: { asset: join(host.home, 'image', 'data') } },
        { name: 'root', source: { asset: join(host.home, 'image', 'root') }, root: true },
        { name: 'read', source: { asset: join(host.home, 'image', 'read') }, readOnly: true },
      ],
      nics: [{ name: 'a' }, { name: 'b', ipv4: { address: '172.16.0.50' } }],
    });

    it('runs it without a word from its guest, its disks and interfaces in order', async () => {
      host.failing.add('ready');
      const vm = await vms.create(request());
      assert.equal(vm.state, 'running');
      assert.throws(() => vms.guest('own'), { code: 'guest_unavailable' });
      const spec = host.specs.get('own');
      assert.deepEqual(
        spec?.disks.map(({ name, serial, format, readOnly }) => [name, serial, format, readOnly]),
        [
          ['root', 'root', 'qcow2', false],
          ['data0', 'data', 'qcow2', false],
          ['data1', 'read', 'raw', true],
        ],
      );
      assert.deepEqual(
        spec?.nics.map(({ name, mac }) => [name, mac]),
        [
          ['net0', vm.nics[0]?.addresses.mac],
          ['net1', '02:00:ac:10:00:32'],
        ],
      );
      assert.equal(spec?.initrd, null);
      await vms.stop('own');
      await vms.start('own');
    });

    it('takes nothing of its files but links, which go with it', async () => {
      await vms.create(request());
      const dir = join(host.home, 'vms', 'own');
      assert.deepEqual((await readdir(dir)).filter((name) => !name.startsWith('layer-')).sort(), [
        'base.ext4',
        'console',
        'data0.base',
        'data0.qcow2',
        'data1.base',
        'manifest.json',
        'run',
        'vmlinux',
      ]);
      assert.equal((await stat(join(dir, 'data1.base'))).nlink, 2);
      await writeFile(join(dir, 'run', 'console.log'), 'hello');
      assert.equal(await readFile(join(dir, 'console', 'out.log'), 'utf8'), 'hello');
      await vms.remove('own');
      assert.equal(await readFile(join(host.home, 'image', 'data'), 'utf8'), 'data');
      assert.equal((await stat(join(host.home, 'image', 'data'))).nlink, 1);
    });

    it('refuses a snapshot of what a snapshot would not hold', async () => {
      await vms.create(request());
      await assert.rejects(vms.snapshot('own'), { code: 'unsupported' });
    });

    it('leaves it as it was when a file is gone at its first start', async () => {
      await vms.create({ ...request(), start: false });
      await rm(join(host.home, 'image', 'data'));
      await assert.rejects(vms.start('own'), { code: 'asset_unusable' });
      assert.deepEqual([vms.get('own').state, await readdir(join(host.home, 'vms'))], ['created', []]);
    });
  });
});
