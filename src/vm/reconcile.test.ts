import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError, type ErrorCode } from '../common/errors.ts';
import { until } from '../common/testing/until.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small, smallShape } from './testing/fake-fixtures.ts';
import type { FakeHost } from './testing/fake-host.ts';
import { sparesOf } from './testing/spares.ts';

const more = Number.MAX_SAFE_INTEGER;

function refusal(code: ErrorCode) {
  return (error: unknown) => error instanceof BerthError && error.code === code;
}

describe('a daemon that runs', () => {
  let host: FakeHost;
  let vms: Vms;
  let id: string;
  let events: string[];

  const reopen = daemonPerTest((daemon) => {
    ({ host, vms } = daemon);
    vms.onEvent(({ type }) => events?.push(type));
  });
  beforeEach(async () => {
    ({ id } = await vms.create(small));
    events = [];
  });

  /** Waits for what the next look at the VM must bring about. */
  async function becomes(state: string, reason: RegExp | null): Promise<void> {
    const isSo = () => {
      const vm = vms.get(id);
      return vm.state === state && (reason === null ? vm.reason === null : reason.test(vm.reason ?? ''));
    };
    await until(`${state}, ${reason}`, isSo);
  }

  it('sees what others do to a VM, told or not', async () => {
    host.processes.set(id, 'paused');
    await becomes('paused', /found paused/);
    host.processes.set(id, 'running');
    await becomes('running', null);
    host.change(id, 'paused');
    await becomes('paused', /found paused/);
    assert.deepEqual(events, ['vm.paused', 'vm.resumed', 'vm.paused']);
  });

  it('shows a VM without disk space as paused, refuses calls to it at once, and lets it go on by itself', async () => {
    host.reserveMiB = more;
    host.change(id, 'stalled');
    await becomes('paused', /disk of the host is full/);
    assert.throws(() => vms.guest(id), refusal('host_disk_full'));
    await assert.rejects(vms.resume(id), refusal('host_disk_full'));
    await assert.rejects(vms.create(small), refusal('insufficient_storage'));
    host.reserveMiB = 0;
    await becomes('running', null);
    assert.ok(vms.guest(id));
    await until('it knows the time', () => host.calls.some(({ name }) => name === 'setClock'));
  });

  it('lets a VM go on that its user resumes: it serves from that moment, and knows the time', async () => {
    // Nothing but its user lets it go on.
    await reopen({ settings: { reconcileIntervalMs: 3_600_000 } });
    host.change(id, 'stalled');
    await becomes('paused', /full/);
    // What the engine tells then is not heard.
    const looking = Promise.withResolvers<void>();
    host.waiting.set('observe', looking.promise);
    host.calls.length = 0;
    try {
      assert.equal((await vms.resume(id)).state, 'running');
      assert.ok(vms.guest(id));
      const told = host.calls.filter(({ name }) => name === 'setClock');
      assert.deepEqual(told, [{ name: 'setClock', id }]);
    } finally {
      // A failed test must not leave the daemon waiting.
      looking.resolve();
    }
  });

  it('ends the calls to a guest that is held, once its record says so', async () => {
    const before = host.closedGuests;
    host.reserveMiB = more;
    host.change(id, 'stalled');
    await until('the calls end', () => host.closedGuests > before);
    assert.equal(vms.get(id).state, 'paused');
  });

  it('knows after a restart which VM waits for space, and which one was paused on request', async () => {
    const paused = await vms.create(small);
    await vms.pause(paused.id);
    host.reserveMiB = more;
    host.change(id, 'stalled');
    await becomes('paused', /full/);
    await reopen();
    assert.throws(() => vms.guest(id), refusal('host_disk_full'));
    assert.equal(vms.get(paused.id).reason, null);
    host.reserveMiB = 0;
    await becomes('running', null);
    assert.equal(vms.get(paused.id).state, 'paused');
    assert.equal(host.processes.get(paused.id), 'paused');
  });

  it('stops a VM without disk space without waiting for its guest', async () => {
    host.reserveMiB = more;
    host.change(id, 'stalled');
    await becomes('paused', /full/);
    assert.equal((await vms.stop(id)).state, 'stopped');
    assert.equal(
      host.calls.some(({ name }) => name === 'waitForExit'),
      false,
    );
  });

  it('lets a paused VM go on when it is to stop, since its guest cannot end otherwise', async () => {
    await vms.pause(id);
    const states: unknown[] = [];
    host.onCall = (name) => {
      if (name === 'waitForExit') states.push(host.processes.get(id));
    };
    assert.equal((await vms.stop(id)).state, 'stopped');
    assert.deepEqual(states, ['running']);
  });

  it('notices a process that is gone though nobody told how it ended', async () => {
    host.processes.delete(id);
    await becomes('stopped', /its process ended/);
  });

  it('says that a process does not answer, until it does', async () => {
    host.failing.add('observe');
    await becomes('running', /does not answer/);
    host.failing.clear();
    await becomes('running', null);
  });

  it('does not wait for a hidden VM that cannot be removed', async () => {
    await vms.warm(smallShape);
    await reopen({ settings: { spares: { waiting: 1, ready: 0 } } });
    const [spare = ''] = await sparesOf(host, 1);
    const hanging = Promise.withResolvers<void>();
    let tries = 0;
    host.onCall = (name, of) => {
      if (name !== 'destroy' || of !== spare) return;
      if (++tries > 1) return hanging.promise;
      throw new Error('it is not the time');
    };
    try {
      host.end(spare, 'crashed');
      await until('it is tried again', () => tries > 1);
      host.processes.set(id, 'paused');
      await becomes('paused', /found paused/);
      host.reserveMiB = more;
      host.change(id, 'stalled');
      await becomes('paused', /disk of the host is full/);
      host.reserveMiB = 0;
      await becomes('running', null);
      assert.equal(tries, 2);
    } finally {
      hanging.resolve();
    }
  });

  it('leaves a VM alone while an operation on it is under way', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    host.waiting.set('start', promise);
    const rebooting = vms.reboot(id);
    await until('it starts', () => vms.get(id).state === 'starting');
    host.observed.length = 0;
    await sleep(100);
    assert.deepEqual(host.observed, []);
    resolve();
    assert.equal((await rebooting).state, 'running');
  });

  it('looks at nothing when no VM runs', async () => {
    await vms.stop(id, { force: true });
    host.observed.length = 0;
    await sleep(100);
    assert.deepEqual(host.observed, []);
  });
});
