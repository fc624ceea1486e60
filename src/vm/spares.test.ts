import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError } from '../common/errors.ts';
import { until } from '../common/testing/until.ts';
import type { SpareSettings } from './context.ts';
import type { Vm, VmEvent } from './model.ts';
import type { Quotas } from './quotas.ts';
import type { CreateVm } from './request.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small, smallShape } from './testing/fake-fixtures.ts';
import type { FakeCall, FakeHost } from './testing/fake-host.ts';
import { sparesOf } from './testing/spares.ts';

/** Milliseconds between looks at the VMs: none comes, that would take away what a claim or an end left. */
const reconcileIntervalMs = 3_600_000;

describe('spares', () => {
  let host: FakeHost;
  let vms: Vms;

  const reopenWith = daemonPerTest((daemon) => ({ host, vms } = daemon));
  const reopen = (spares: SpareSettings, quotas: Partial<Quotas> = {}) =>
    reopenWith({ quotas, settings: { spares, reconcileIntervalMs } });
  beforeEach(() => vms.warm(smallShape));

  /** Opens a daemon and waits for its spares; returns their ids. */
  async function withSpares(spares: SpareSettings, quotas: Partial<Quotas> = {}): Promise<readonly string[]> {
    await reopen(spares, quotas);
    return standBy(spares.waiting + spares.ready);
  }

  const standBy = (count: number) => sparesOf(host, count);
  const called = (name: FakeCall) => host.calls.filter((call) => call.name === name).map(({ id }) => id);
  const isReady = (id: string) => called('become').includes(id);
  const files = () => readdir(join(host.home, 'vms'));

  it('are claimed: those that are ready first, whichever was made first', async () => {
    const spares = await withSpares({ waiting: 1, ready: 1 });
    const ready = spares.find(isReady);
    assert.equal((await vms.create(small)).id, ready);
    // The ready one that takes its place is younger than the one that waits.
    const second = (await standBy(2)).find(isReady);
    assert.equal((await vms.create(small)).id, second);
  });

  it('are claimed when they wait, where none is ready', async () => {
    const [waiting] = await withSpares({ waiting: 1, ready: 0 });
    assert.equal(isReady(waiting!), false);
    assert.equal((await vms.create(small)).id, waiting);
    assert.equal(isReady(waiting!), true);
  });

  for (const [kind, spares] of [
    ['waits', { waiting: 1, ready: 0 }],
    ['is ready', { waiting: 0, ready: 1 }],
  ] as const)
    it(`become what is asked for, where one ${kind}, and a machine of their own at that moment`, async () => {
      const older = await vms.create({ ...small, start: false });
      const [spare] = await withSpares(spares);
      const events: VmEvent['type'][] = [];
      vms.onEvent(({ type }) => events.push(type));
      const before = called('become').length;
      const begun = new Date().toISOString();
      const egress = { outbound: true, allow: ['192.0.2.0/24'] };
      const wanted = {
        name: 'asked',
        tenant: 'a',
        labels: { of: 'mine' },
        egress,
        diskMiB: 9,
        parkAfterSeconds: 7,
        apiRecord: '{}',
      };
      const vm = await vms.create({ ...small, ...wanted });
      assert.equal(vm.id, spare);
      const { name, tenant, labels, diskMiB, parkAfterSeconds, apiRecord } = vm;
      assert.deepEqual({ name, tenant, labels, egress: vm.egress, diskMiB, parkAfterSeconds, apiRecord }, wanted);
      assert.deepEqual([vm.hidden, vm.state, vm.startMode], [false, 'running', 'clone']);
      assert.ok(vm.createdAt >= begun);
      assert.deepEqual([called('become').length - before, called('growDisk'), events], [1, [spare], ['vm.created']]);
      assert.deepEqual(
        vms.list().map(({ id }) => id),
        [older.id, spare],
      );
    });

  for (const at of ['restore', 'become'] as const)
    it(`that fail when they are claimed, at ${at}, go, and a clone is made`, async () => {
      const [spare] = await withSpares({ waiting: 1, ready: 0 });
      host.onCall = (name, id) => {
        if (name === at && id === spare) throw new BerthError('boot_failed', { reason: 'it is a test' });
      };
      const vm = await vms.create(small);
      assert.notEqual(vm.id, spare);
      assert.equal(vm.startMode, 'clone');
      await standBy(1);
      assert.equal((await files()).includes(spare!), false);
      assert.equal(host.processes.has(spare!), false);
    });

  it('of a template that is of no use go with it, and the VM boots', async () => {
    await withSpares({ waiting: 3, ready: 0 });
    host.onCall = (name) => {
      if (name === 'restore') throw new BerthError('snapshot_damaged');
    };
    const vm = await vms.create(small);
    assert.equal(vm.startMode, 'boot');
    await until('the others are gone', () => host.processes.size === 1);
    await vms.close();
    assert.deepEqual([await files(), [...host.processes.keys()]], [[vm.id], [vm.id]]);
  });

  it('stay as they were when the request is refused', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 }, { maxVms: 1 });
    const other = await vms.create({ ...small, id: 'other', start: false });
    const refused: readonly [Partial<CreateVm>, string][] = [
      [{}, 'quota_exceeded'],
      [{ parkAfterSeconds: -1 }, 'invalid_argument'],
      [{ diskMiB: 1e9 }, 'invalid_argument'],
      [{ labels: { '': 'no key' } }, 'invalid_argument'],
    ];
    for (const [change, code] of refused) await assert.rejects(vms.create({ ...small, ...change }), { code });
    host.reserveMiB = 1e12;
    await assert.rejects(vms.create(small), { code: 'insufficient_storage' });
    host.reserveMiB = 0;
    assert.deepEqual(await standBy(1), [spare]);
    await vms.remove(other.id);
    assert.equal((await vms.create(small)).id, spare);
  });

  it('are not for VMs that bring an id or a name for their console', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 });
    for (const own of [{ id: 'own' }, { consoleFile: 'own.log' }]) {
      const vm = await vms.create({ ...small, ...own });
      assert.deepEqual([vm.startMode, vm.id === spare], ['clone', false]);
    }
    assert.deepEqual(await standBy(1), [spare]);
  });

  it('are each claimed once, by as many as ask at one time', async () => {
    const spares = await withSpares({ waiting: 2, ready: 0 });
    const made = await Promise.all([1, 2, 3].map(() => vms.create(small)));
    assert.equal(new Set(made.map(({ id }) => id)).size, 3);
    assert.equal(made.filter(({ id }) => spares.includes(id)).length, 2);
    assert.equal(new Set(made.map(({ addresses }) => addresses.ipv4)).size, 3);
  });

  /** A create that has chosen a spare, whose process has ended since then. */
  async function chosenAndEnded(spare: string, request: CreateVm): Promise<{ readonly promise: Promise<Vm> }> {
    // The look at it keeps its turn until it is chosen, and the end of its process is told meanwhile.
    const { promise, resolve } = Promise.withResolvers<void>();
    host.waiting.set('observe', promise);
    host.change(spare, 'paused');
    host.end(spare, 'crashed');
    const creating = vms.create(request);
    creating.catch(() => {});
    await sleep(50);
    host.waiting.clear();
    resolve();
    return { promise: creating };
  }

  it('whose process ends when they have been chosen go, also when the request is refused', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 });
    const { promise } = await chosenAndEnded(spare!, { ...small, diskMiB: 1e9 });
    await assert.rejects(promise, { code: 'invalid_argument' });
    await until('it is gone', async () => !(await files()).includes(spare!));
  });

  it('whose process ends while the request is looked at, and refused, go', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 });
    // Space is looked for then, and there is none.
    const end = () => {
      host.end(spare!, 'crashed');
      return 1e12;
    };
    Object.defineProperty(host, 'reserveMiB', { get: end });
    await assert.rejects(vms.create(small), { code: 'insufficient_storage' });
    await until('it is gone', async () => !(await files()).includes(spare!));
  });

  it('that are chosen when the daemon ends go as the others, when the request is refused', async () => {
    await withSpares({ waiting: 2, ready: 0 });
    const [oldest = ''] = called('prepare');
    const { promise, resolve } = Promise.withResolvers<void>();
    host.onCall = (name, id) => (name === 'observe' && id === oldest ? promise : undefined);
    // The look at it keeps its turn until the others are gone.
    host.change(oldest, 'paused');
    const refused = assert.rejects(vms.create({ ...small, diskMiB: 1e9 }), { code: 'invalid_argument' });
    // Nothing tells that it is chosen.
    await sleep(50);
    const closed = vms.close();
    await until('the other one is gone', () => host.processes.size === 1);
    resolve();
    await Promise.all([refused, closed]);
    assert.deepEqual([await files(), host.processes.size], [[], 0]);
  });

  it('whose process ends when they have been chosen are passed over', async () => {
    for (const spares of [
      { waiting: 1, ready: 0 },
      { waiting: 0, ready: 1 },
    ]) {
      const [spare] = await withSpares(spares);
      const events: VmEvent['type'][] = [];
      vms.onEvent(({ type }) => events.push(type));
      const creating = await chosenAndEnded(spare!, small);
      const vm = await creating.promise;
      assert.deepEqual([vm.startMode, vm.id === spare, events], ['clone', false, ['vm.created']]);
      await until('nothing is left of it', async () => !(await files()).includes(spare!));
    }
  });

  it('are made of a template as soon as it is there, for what was asked for last', async () => {
    await reopenWith({ settings: { spares: { waiting: 1, ready: 0 }, templates: { build: true, budgetBytes: 1e9 } } });
    assert.equal((await vms.create({ ...small, memoryMiB: 65 })).startMode, 'boot');
    const ofThis = () =>
      host.db.get<{ id: string }>("SELECT id FROM vms WHERE hidden = 1 AND state = 'paused' AND memory_mib = 65");
    await until('a spare of its template stands by', () => ofThis() !== undefined);
    const spare = ofThis();
    assert.equal((await vms.create({ ...small, memoryMiB: 65 })).id, spare?.id);
  });

  it('have no way out before they stand still, and then that of who asked last', async () => {
    const closed = { outbound: false, allow: [] };
    const egress = { outbound: true, allow: ['192.0.2.0/24'] };
    for (const spares of [
      { waiting: 1, ready: 0 },
      { waiting: 0, ready: 1 },
    ]) {
      await withSpares(spares);
      await vms.create({ ...small, egress });
      await standBy(1);
      const ways = new Map<string, unknown>();
      host.onCall = (name, id) => {
        if (vms.list().every((vm) => vm.id !== id)) ways.set(`${name}`, host.egressOf.get(id));
      };
      const { id } = await vms.create({ ...small, egress });
      const [next = ''] = await standBy(1);
      const steps = spares.ready === 1 ? ['prepare', 'restore', 'become'] : ['prepare'];
      assert.deepEqual(
        steps.map((name) => ways.get(name)),
        steps.map(() => closed),
      );
      assert.deepEqual([host.egressOf.get(id), host.egressOf.get(next)], [egress, egress]);
      host.onCall = () => {};
    }
  });

  it('whose process ends by itself go', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 });
    host.end(spare!, 'crashed');
    await standBy(0);
    await until('all files are gone', async () => (await files()).length === 0);
    assert.equal((await vms.create(small)).startMode, 'clone');
    await standBy(1);
  });

  it('are of the template that was used last', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 });
    const other = { ...small, memoryMiB: 65 };
    await vms.warm({ ...smallShape, memoryMiB: 65 });
    await vms.create(other);
    await until('the process of the spare is gone', () => !host.processes.has(spare!));
    const [next] = await standBy(1);
    assert.equal((await vms.create(other)).id, next);
  });

  it('are hidden: nobody finds them, or can do anything with them', async () => {
    const [id = ''] = await withSpares({ waiting: 0, ready: 1 });
    assert.deepEqual([vms.list(), vms.listOf('')], [[], []]);
    const gone = { code: 'vm_not_found' };
    for (const find of [
      () => vms.get(id),
      () => vms.getOf(id, ''),
      () => vms.guest(id),
      () => vms.controlSocket(id),
      () => vms.usage(id),
      () => vms.log(id, 'console', 1),
      () => vms.start(id),
      () => vms.stop(id),
      () => vms.stop(id, { force: true }),
      () => vms.reboot(id),
      () => vms.pause(id),
      () => vms.resume(id),
      () => vms.park(id),
      () => vms.resize(id, { cpus: 2 }),
      () => vms.snapshot(id),
      () => vms.fork(id, 1),
      () => vms.remove(id),
    ])
      await assert.rejects(async () => find(), gone, String(find));
    assert.deepEqual(await standBy(1), [id]);
  });

  it('are not left behind by a daemon that ends while one is being made', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    host.onCall = (name) => (name === 'prepare' ? promise : undefined);
    await reopen({ waiting: 2, ready: 0 });
    await until('a spare is begun', () => called('prepare').length > 0);
    const closed = vms.close();
    resolve();
    await closed;
    assert.deepEqual([called('prepare').length, await files(), host.processes.size], [1, [], 0]);
    assert.deepEqual(host.db.all('SELECT * FROM vms'), []);
  });

  it('that cannot be made leave nothing, and VMs are made without', async () => {
    host.failing.add('prepare');
    await reopen({ waiting: 1, ready: 0 });
    await until('a spare is begun', () => called('prepare').length > 0);
    await until('all files are gone', async () => (await files()).length === 0);
    host.failing.clear();
    assert.equal((await vms.create(small)).startMode, 'clone');
    await standBy(1);
  });
});
