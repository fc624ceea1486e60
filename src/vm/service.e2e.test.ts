import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { eventually } from '../../test/support/eventually.ts';
import { traces } from '../../test/support/leftovers.ts';
import { openTestHost } from '../../test/support/service.ts';
import { BerthError, type ErrorCode } from '../common/errors.ts';
import type { Vm } from './model.ts';

type TestHost = Awaited<ReturnType<typeof openTestHost>>;

const request = { cpus: 1, memoryMiB: 256, egress: { outbound: false, allow: [] } };

function refusal(code: ErrorCode) {
  return (error: unknown) => error instanceof BerthError && error.code === code;
}

describe('VM service', () => {
  let host: TestHost;
  let vm: Vm;
  const events: string[] = [];

  before(async () => {
    host = await openTestHost();
    host.vms.onEvent((event) => events.push(event.type));
    vm = await host.vms.create(request);
  });
  after(() => host.dispose());

  async function run(...argv: [string, ...string[]]): Promise<string> {
    const exec = host.vms.guest(vm.id).exec({ argv, cwd: '/', env: {}, uid: 0, gid: 0, timeoutMs: 30_000 });
    const [stdout, stderr, exit] = await Promise.all([text(exec.stdout), text(exec.stderr), exec.exit]);
    assert.equal(exit.exitCode, 0, stderr);
    return stdout;
  }

  const bootId = () => run('/bin/cat', '/proc/sys/kernel/random/boot_id');

  it('serves what it made', () => {
    assert.equal(vm.state, 'running');
    assert.deepEqual(host.vms.list(), [vm]);
    assert.equal(host.vms.get(vm.id), vm);
    assert.deepEqual(events, ['vm.created']);
  });

  it('pauses and resumes', async () => {
    const before = await bootId();
    assert.equal((await host.vms.pause(vm.id)).state, 'paused');
    assert.throws(() => host.vms.guest(vm.id), refusal('wrong_state'));
    await assert.rejects(host.vms.pause(vm.id), refusal('wrong_state'));
    assert.equal((await host.vms.resume(vm.id)).state, 'running');
    assert.equal(await bootId(), before);
  });

  it('comes back by itself when the guest reboots, with its network', async () => {
    const before = await bootId();
    await host.vms.guest(vm.id).reboot();
    await eventually('it runs again', async () => {
      try {
        return (await bootId()) !== before;
      } catch (error) {
        if (error instanceof BerthError) return false;
        throw error;
      }
    });
    assert.ok((await run('/sbin/ip', '-4', 'addr')).includes(vm.addresses.ipv4));
  });

  it('reboots on request', async () => {
    const before = await bootId();
    assert.equal((await host.vms.reboot(vm.id)).state, 'running');
    assert.notEqual(await bootId(), before);
  });

  it('counts as stopped when the guest powers off', async () => {
    await host.vms.guest(vm.id).powerOff();
    await eventually('it counts as stopped', async () => host.vms.get(vm.id).state === 'stopped');
    assert.equal(host.vms.get(vm.id).reason, 'powered off by its guest');
  });

  it('is killed when its guest heeds neither the request to power off nor the power button', async () => {
    await host.vms.start(vm.id);
    // Process 1 of the guest, held in a control group of its own: what it is told it never hears.
    const hold = 'cd /sys/fs/cgroup && mkdir held && echo 1 > held/cgroup.procs && echo 1 > held/cgroup.freeze';
    const held = host.vms.guest(vm.id).exec({
      argv: ['/bin/sh', '-c', hold],
      ...{ cwd: '/', env: {}, uid: 0, gid: 0, timeoutMs: 30_000 },
    });
    held.exit.catch(() => {});
    const isSilent = () =>
      host.vms
        .guest(vm.id)
        .ready(1000)
        .then(
          () => false,
          () => true,
        );
    await eventually('the guest is silent', isSilent);
    assert.equal((await traces(host.home)).processes.length, 1);
    const stopped = await host.vms.stop(vm.id, { graceMs: 300 });
    assert.deepEqual([stopped.state, stopped.reason], ['stopped', null]);
    assert.deepEqual((await traces(host.home)).processes, []);
  });

  it('is resized while stopped, and the guest sees it', async () => {
    const bigger = { cpus: 2, memoryMiB: 384, diskMiB: vm.diskMiB + 1024 };
    await assert.rejects(host.vms.resize(vm.id, { diskMiB: vm.diskMiB - 1 }), refusal('invalid_argument'));
    await assert.rejects(host.vms.resize(vm.id, { memoryMiB: 1 }), refusal('invalid_argument'));
    await host.vms.resize(vm.id, bigger);
    await host.vms.start(vm.id);
    await assert.rejects(host.vms.resize(vm.id, { cpus: 1 }), refusal('wrong_state'));
    assert.equal((await run('/usr/bin/nproc')).trim(), '2');
    const memoryKiB = Number(/MemTotal:\s+(\d+)/.exec(await run('/bin/cat', '/proc/meminfo'))?.[1]);
    assert.ok(memoryKiB > 300 * 1024, `${memoryKiB} KiB`);
    const diskMiB = Number((await run('/bin/df', '-m', '--output=size', '/')).trim().split('\n').at(-1));
    assert.ok(diskMiB > vm.diskMiB, `${diskMiB} MiB`);
  });

  it('makes VMs that are not started, and takes a chosen id once', async () => {
    const idle = await host.vms.create({ ...request, id: 'chosen-id', start: false });
    assert.equal(idle.state, 'created');
    await assert.rejects(host.vms.create({ ...request, id: 'chosen-id', start: false }), refusal('vm_exists'));
    await assert.rejects(host.vms.stop('chosen-id'), refusal('wrong_state'));
    await host.vms.remove('chosen-id');
  });

  it('refuses what does not exist or does not fit before anything is touched', async () => {
    const count = host.vms.list().length;
    await assert.rejects(host.vms.create({ ...request, imageId: 'img-none' }), refusal('image_not_found'));
    await assert.rejects(host.vms.create({ ...request, snapshotId: 'snap-none' }), refusal('snapshot_not_found'));
    await assert.rejects(host.vms.create({ ...request, cpus: 99 }), refusal('invalid_argument'));
    await assert.rejects(host.vms.remove('none'), refusal('vm_not_found'));
    assert.equal(host.vms.list().length, count);
  });

  it('gives concurrent creates different leases', async () => {
    const made = await Promise.all(Array.from({ length: 8 }, () => host.vms.create({ ...request, start: false })));
    for (const lease of [made.map((each) => each.addresses.ipv4), made.map((each) => each.addresses.tap)])
      assert.equal(new Set(lease).size, made.length);
    assert.equal(new Set(made.map((each) => each.uid)).size, made.length);
    await Promise.all(made.map((each) => host.vms.remove(each.id)));
  });

  it('handles a start, a stop and a removal at once one after another', async () => {
    const idle = await host.vms.create({ ...request, start: false });
    const results = await Promise.allSettled([
      host.vms.start(idle.id),
      host.vms.start(idle.id),
      host.vms.stop(idle.id, { force: true }),
      host.vms.remove(idle.id),
      host.vms.remove(idle.id),
    ]);
    assert.deepEqual(
      results.map((result) => result.status),
      ['fulfilled', 'rejected', 'fulfilled', 'fulfilled', 'rejected'],
    );
    assert.throws(() => host.vms.get(idle.id), refusal('vm_not_found'));
  });
});
