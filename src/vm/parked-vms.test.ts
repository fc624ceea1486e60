import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CreateVm } from './request.ts';
import { Vms } from './service.ts';
import { FakeHost } from './testing/fake-host.ts';

const small: CreateVm = { cpus: 1, memoryMiB: 64, egress: { outbound: false, allow: [] } };

describe('the VM service and a parked VM', () => {
  let host: FakeHost;
  let vms: Vms;
  let id: string;

  beforeEach(async () => {
    host = await FakeHost.create();
    vms = await Vms.open(host.dependencies());
    ({ id } = await vms.create(small));
    await vms.park(id);
  });
  afterEach(async () => {
    await vms.close();
    await host.remove();
  });

  /** State and mark of the record, and what the process does. */
  function seen() {
    const { state, parked } = vms.get(id);
    return [state, parked, host.processes.get(id) ?? 'absent'];
  }

  async function reopen(): Promise<void> {
    await vms.close();
    vms = await Vms.open(host.dependencies());
  }

  it('shows it as running, however often it looks at it', async () => {
    const looks = host.observed.length;
    while (host.observed.length < looks + 3) await sleep(5);
    assert.deepEqual(seen(), ['running', true, 'paused']);
    assert.equal(vms.get(id).reason, null);
  });

  it('knows when somebody else has let it go on', async () => {
    host.change(id, 'running');
    while (vms.get(id).parked) await sleep(5);
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
    await vms.resume(id);
    assert.deepEqual(seen(), ['running', false, 'running']);
    await vms.guest(id).sync();
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
    vms = await Vms.open(host.dependencies());
    assert.deepEqual(seen(), ['running', false, 'running']);
    await vms.park(id);
    await vms.close();
    host.processes.delete(id);
    vms = await Vms.open(host.dependencies());
    assert.deepEqual(seen(), ['stopped', false, 'absent']);
  });

  it('sees it end', async () => {
    host.end(id, 'crashed');
    while (vms.get(id).state !== 'stopped') await sleep(5);
    assert.deepEqual(seen(), ['stopped', false, 'absent']);
    await vms.start(id);
    assert.deepEqual(seen(), ['running', false, 'running']);
  });

  it('holds it for lack of disk space, and lets it go on, as any other', async () => {
    host.reserveMiB = Number.MAX_SAFE_INTEGER;
    host.change(id, 'stalled');
    while (vms.get(id).state !== 'paused') await sleep(5);
    assert.equal(vms.get(id).parked, false);
    host.reserveMiB = 0;
    while (vms.get(id).state !== 'running') await sleep(5);
    await vms.guest(id).sync();
    assert.deepEqual(seen(), ['running', false, 'running']);
  });

  it('refuses times that are none', async () => {
    for (const parkAfterSeconds of [-1, 1.5, 86_401, Number.NaN])
      await assert.rejects(vms.create({ ...small, parkAfterSeconds }), { code: 'invalid_argument' });
    assert.equal(vms.list().length, 1);
  });
});
