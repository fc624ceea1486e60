import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { until } from '../common/testing/until.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small } from './testing/fake-fixtures.ts';
import type { FakeHost } from './testing/fake-host.ts';

describe('the VM service and a parked VM', () => {
  let host: FakeHost;
  let vms: Vms;
  let id: string;

  const reopen = daemonPerTest((daemon) => ({ host, vms } = daemon));
  beforeEach(async () => {
    ({ id } = await vms.create(small));
    await vms.park(id);
  });

  /** State and mark of the record, and what the process does. */
  function seen() {
    const { state, parked } = vms.get(id);
    return [state, parked, host.processes.get(id) ?? 'absent'];
  }

  it('shows it as running, however often it looks at it', async () => {
    const looks = host.observed.length;
    await until('it is looked at three times', () => host.observed.length >= looks + 3);
    assert.deepEqual(seen(), ['running', true, 'paused']);
    assert.equal(vms.get(id).reason, null);
  });

  it('knows when somebody else has let it go on', async () => {
    host.change(id, 'running');
    await until('it is known to be awake', () => !vms.get(id).parked);
    assert.deepEqual(seen(), ['running', false, 'running']);
  });

  it('wakes it for a request', async () => {
    await vms.guest(id).sync();
    assert.deepEqual(seen(), ['running', false, 'running']);
  });

  it('pauses it for its user, and then nothing but its user wakes it', async () => {
    assert.equal((await vms.pause(id)).parked, false);
    assert.deepEqual(seen(), ['paused', false, 'paused']);
    await assert.rejects(vms.park(id), { code: 'wrong_state' });
    assert.equal(host.packet(vms.get(id).addresses.tap), false);
    await reopen();
    assert.deepEqual(seen(), ['paused', false, 'paused']);
    await vms.resume(id);
    assert.deepEqual(seen(), ['running', false, 'running']);
    await vms.guest(id).sync();
  });

  it('forgets that it was parked when its user pauses it, also where it could not write that it went on', async () => {
    // As on a disk that is full for that moment.
    await host.db.write((writer) =>
      writer.run(`CREATE TRIGGER full BEFORE UPDATE OF parked ON vms WHEN new.state = 'running' AND new.parked = 0
        BEGIN SELECT RAISE(ABORT, 'it is a test'); END`),
    );
    await vms.pause(id);
    await host.db.write((writer) => writer.run('DROP TRIGGER full'));
    await vms.resume(id);
    await vms.close();
    // It was being captured when the daemon ended: taken for parked, it would stand still until somebody asks for it.
    host.processes.set(id, 'paused');
    const operation = { vmId: id, kind: 'snapshot', detail: {}, startedAt: '' } as const;
    await host.dependencies().store.begin(vms.get(id), operation);
    await reopen();
    assert.deepEqual(seen(), ['running', false, 'running']);
  });

  it('stops, starts and removes it as any other', async () => {
    await vms.stop(id);
    assert.deepEqual(seen(), ['stopped', false, 'absent']);
    await vms.start(id);
    assert.deepEqual(seen(), ['running', false, 'running']);
    await vms.park(id);
    await vms.reboot(id);
    assert.deepEqual(seen(), ['running', false, 'running']);
    await vms.park(id);
    await vms.remove(id);
    assert.deepEqual(vms.list(), []);
  });

  it('leaves it as it is when the daemon ends and comes back', async () => {
    await reopen();
    assert.deepEqual(seen(), ['running', true, 'paused']);
    await vms.guest(id).sync();
    assert.deepEqual(seen(), ['running', false, 'running']);
    await reopen();
    assert.deepEqual(seen(), ['running', false, 'running']);
  });

  it('finds out that it was woken, or that its process ended, while no daemon was there', async () => {
    await vms.close();
    host.processes.set(id, 'running');
    await reopen();
    assert.deepEqual(seen(), ['running', false, 'running']);
    await vms.park(id);
    await vms.close();
    host.processes.delete(id);
    await reopen();
    assert.deepEqual(seen(), ['stopped', false, 'absent']);
  });

  it('sees it end', async () => {
    host.end(id, 'crashed');
    await until('it is stopped', () => vms.get(id).state === 'stopped');
    assert.deepEqual(seen(), ['stopped', false, 'absent']);
    await vms.start(id);
    assert.deepEqual(seen(), ['running', false, 'running']);
  });

  it('holds it for lack of disk space, and lets it go on, as any other', async () => {
    host.reserveMiB = Number.MAX_SAFE_INTEGER;
    host.change(id, 'stalled');
    await until('it is paused', () => vms.get(id).state === 'paused');
    assert.equal(vms.get(id).parked, false);
    host.reserveMiB = 0;
    await until('it runs', () => vms.get(id).state === 'running');
    await vms.guest(id).sync();
    assert.deepEqual(seen(), ['running', false, 'running']);
  });

  it('refuses times that are none', async () => {
    for (const parkAfterSeconds of [-1, 1.5, 86_401, Number.NaN])
      await assert.rejects(vms.create({ ...small, parkAfterSeconds }), { code: 'invalid_argument' });
    assert.equal(vms.list().length, 1);
  });
});
