import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../src/common/command.ts';
import { createVm, exec, expectStatus, output, vmState, type WireVm } from './support/api.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';
import { noTraces, traces } from './support/leftovers.ts';
import { runBerth } from './support/serve.ts';

/** The uid the process of a daemon's only VM runs under. */
async function uidOfVm({ home }: TestDaemon): Promise<number> {
  const [pid, ...others] = (await traces(home)).processes;
  assert.deepEqual(others, []);
  return Number(/^Uid:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

describe('a VM', () => {
  let daemon: TestDaemon;
  let vm: WireVm;

  before(async () => {
    daemon = await startDaemon();
    vm = await createVm(daemon);
  });
  after(() => daemon.stop());

  it('keeps its disk and its address over stop and start', async () => {
    await output(daemon, vm.id, 'echo kept > /workspace/kept');
    await expectStatus(daemon, 204, 'POST', `/v1/vms/${vm.id}/stop`);
    assert.equal(await vmState(daemon, vm.id), 'STOPPED');
    assert.deepEqual((await traces(daemon.home)).processes, []);
    await expectStatus(daemon, 204, 'POST', `/v1/vms/${vm.id}/start`);
    const again = await expectStatus<WireVm>(daemon, 200, 'GET', `/v1/vms/${vm.id}`);
    assert.equal(again.guestIp, vm.guestIp);
    assert.equal(await output(daemon, vm.id, 'cat /workspace/kept'), 'kept\n');
    assert.match(await output(daemon, vm.id, 'ip -4 addr'), new RegExp(vm.guestIp.replaceAll('.', '\\.')));
  });

  it('survives a killed daemon, is adopted, and is the same machine', async () => {
    const before = await output(daemon, vm.id, 'cat /proc/sys/kernel/random/boot_id');
    const processes = (await traces(daemon.home)).processes;
    await daemon.kill();
    assert.deepEqual((await traces(daemon.home)).processes, processes);
    const { code, stderr } = await runBerth(['teardown'], { BERTH_HOME: daemon.home });
    assert.equal(code, 1);
    assert.match(stderr, /1 VMs of \S+ run/);
    daemon = await daemon.restart();
    assert.equal(await vmState(daemon, vm.id), 'RUNNING');
    assert.equal(await output(daemon, vm.id, 'cat /proc/sys/kernel/random/boot_id'), before);
    assert.deepEqual((await traces(daemon.home)).processes, processes);
  });

  it('never runs a command twice that was interrupted by the death of the daemon', async () => {
    const cut = assert.rejects(
      daemon.call('POST', `/v1/vms/${vm.id}/exec`, {
        cmd: 'echo run >> /workspace/runs; sleep 60',
        timeoutMs: 100_000,
      }),
    );
    await eventually('the command runs', async () => (await exec(daemon, vm.id, 'cat /workspace/runs')).exitCode === 0);
    await daemon.kill();
    await cut;
    daemon = await daemon.restart();
    // The first call of the new daemon is answered in a new session, which begins when the old one's programs are dead.
    assert.equal(await output(daemon, vm.id, 'pgrep -x sleep; cat /workspace/runs'), 'run\n');
  });

  it('ends a command whose client has gone away, with what it started', async () => {
    const client = new AbortController();
    const cmd = 'touch /workspace/begun; setsid sleep 61 & sleep 60';
    const body = { cmd, timeoutMs: 100_000 };
    const call = daemon.call('POST', `/v1/vms/${vm.id}/exec`, body, { signal: client.signal });
    const sleeping = async () => (await output(daemon, vm.id, 'pgrep -c -x sleep || true')).trim();
    await eventually('the command runs', async () => (await sleeping()) === '2');
    client.abort();
    await assert.rejects(call, { name: 'AbortError' });
    await eventually('the command has ended', async () => (await sleeping()) === '0');
  });

  it('is seen as stopped when its process was killed, with nothing left on the host, and starts again', async () => {
    const [pid] = (await traces(daemon.home)).processes;
    process.kill(pid!, 'SIGKILL');
    await eventually('the VM counts as stopped', async () => (await vmState(daemon, vm.id)) === 'STOPPED');
    const { processes, taps, rules } = await traces(daemon.home);
    assert.deepEqual({ processes, taps, rules }, { processes: [], taps: [], rules: [] });
    await expectStatus(daemon, 204, 'POST', `/v1/vms/${vm.id}/start`);
    assert.equal(await output(daemon, vm.id, 'cat /workspace/kept'), 'kept\n');
  });

  it('is seen as stopped when its process ended while no daemon ran', async () => {
    const [pid] = (await traces(daemon.home)).processes;
    await daemon.kill();
    process.kill(pid!, 'SIGKILL');
    daemon = await daemon.restart();
    assert.equal(await vmState(daemon, vm.id), 'STOPPED');
    assert.deepEqual((await traces(daemon.home)).taps, []);
    await expectStatus(daemon, 204, 'POST', `/v1/vms/${vm.id}/start`);
  });

  it('runs under a uid of its own, sandboxed, and its files are closed to others', async () => {
    const [pid] = (await traces(daemon.home)).processes;
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const uid = await uidOfVm(daemon);
    assert.ok(uid >= 300_000, `uid ${uid}`);
    assert.match(status, /^Seccomp:\s+2$/m);
    assert.match(status, /^NoNewPrivs:\s+1$/m);
    const dir = join(daemon.home, 'vms', vm.id);
    const rights = async (name: string) => {
      const { mode, uid: owner } = await stat(join(dir, name));
      return [name, mode & 0o077, owner];
    };
    const [layer, ...otherLayers] = (await readdir(dir)).filter((name) => name.startsWith('layer-'));
    assert.ok(layer, 'there is no layer');
    assert.deepEqual(otherLayers, []);
    assert.deepEqual(await rights(layer), [layer, 0, uid]);
    for (const name of ['run', 'manifest.json']) assert.deepEqual(await rights(name), [name, 0, 0]);
  });

  it('stops cleanly with the daemon asked to take VMs down', async () => {
    await daemon.kill();
    daemon = await daemon.restart();
    process.kill(daemon.pid, 'SIGTERM');
    assert.equal(await daemon.ended, 0);
    const { processes, taps } = await traces(daemon.home);
    assert.deepEqual({ processes, taps }, { processes: [], taps: [] });
    daemon = await daemon.restart();
    assert.equal(await vmState(daemon, vm.id), 'STOPPED');
  });

  it('is gone without a trace after its removal, and its address is free again', async () => {
    await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${vm.id}`);
    await expectStatus(daemon, 404, 'DELETE', `/v1/vms/${vm.id}`);
    assert.deepEqual(await traces(daemon.home), noTraces);
    const next = await createVm(daemon);
    assert.equal(next.guestIp, vm.guestIp);
    await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${next.id}`);
  });

  it('is not left behind by a create that fails', async () => {
    await daemon.kill();
    daemon = await daemon.restart({ env: { BERTH_FAILPOINT: 'create.guest.after=error' } });
    await expectStatus(daemon, 500, 'POST', '/v1/vms', { cpu: 1, memMb: 256, allowIps: [] });
    assert.deepEqual(await traces(daemon.home), noTraces);
  });
});

describe('a changed network address', () => {
  it('cuts off VMs that run, gives them another address at their next start, and lets all be removed', async () => {
    await using before = await startDaemon();
    const vms = [await createVm(before), await createVm(before)];
    const [running, stopped] = vms as [WireVm, WireVm];
    await expectStatus(before, 204, 'POST', `/v1/vms/${stopped.id}/stop`);
    await before.kill();
    await using after = await before.restart({ env: { BERTH_NETWORK_ADDRESS: '172.16.9.1/24' } });
    assert.equal(await vmState(after, running.id), 'RUNNING');
    const [tap, ...otherTaps] = (await traces(after.home)).taps;
    assert.deepEqual(otherTaps, []);
    const { stdout } = await runCommand('ip', ['link', 'show', 'dev', tap!]);
    assert.match(stdout, /state DOWN/);
    assert.doesNotMatch(stdout, / master /);

    await expectStatus(after, 204, 'POST', `/v1/vms/${stopped.id}/start`);
    const { guestIp } = await expectStatus<WireVm>(after, 200, 'GET', `/v1/vms/${stopped.id}`);
    assert.match(guestIp, /^172\.16\.9\./);
    assert.ok((await output(after, stopped.id, 'ip -4 addr')).includes(`${guestIp}/24`));
    for (const vm of vms) await expectStatus(after, 204, 'DELETE', `/v1/vms/${vm.id}`);
    assert.deepEqual(await traces(after.home), noTraces);
  });
});

describe('snapshots', () => {
  let daemon: TestDaemon;

  before(async () => {
    daemon = await startDaemon();
  });
  after(() => daemon.stop());

  it('hold the disk as it was, whatever becomes of the VM, of others made from them, and of the snapshot', async () => {
    const source = await createVm(daemon);
    await output(daemon, source.id, 'echo one > /workspace/state; head -c 3000000 /dev/urandom > /workspace/data');
    const sum = await output(daemon, source.id, 'sha256sum < /workspace/data');
    const { id } = await expectStatus<{ id: string }>(daemon, 201, 'POST', `/v1/vms/${source.id}/snapshots`);
    await output(daemon, source.id, 'echo two > /workspace/state; rm /workspace/data');
    await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${source.id}`);
    const copies = await Promise.all([
      createVm(daemon, { snapshotId: id }),
      createVm(daemon, { snapshotId: id, restoreMemory: false, memMb: 384, diskSizeMb: 4096 }),
    ]);
    for (const copy of copies) {
      assert.equal(await output(daemon, copy.id, 'cat /workspace/state'), 'one\n');
      assert.equal(await output(daemon, copy.id, 'sha256sum < /workspace/data'), sum);
    }
    await output(daemon, copies[0].id, 'echo mine > /workspace/state');
    assert.equal(await output(daemon, copies[1].id, 'cat /workspace/state'), 'one\n');
    const sizeMiB = Number(await output(daemon, copies[1].id, `df -m --output=size / | tail -1`));
    assert.ok(sizeMiB > 3500, `root file system of ${sizeMiB} MiB`);
    for (const copy of copies) await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${copy.id}`);
    assert.deepEqual(await readdir(join(daemon.home, 'vms')), []);
  });
});

describe('daemons with different data directories', () => {
  it('run side by side and do not see each other', async () => {
    await using one = await startDaemon();
    await using other = await startDaemon({
      env: {
        BERTH_NETWORK_BRIDGE: 'berth1',
        BERTH_NETWORK_ADDRESS: '172.16.1.1/24',
        BERTH_NETWORK_ADDRESS6: 'fd62:7274:6801::1/64',
      },
    });
    const [mine, theirs] = await Promise.all([createVm(one), createVm(other)]);
    assert.equal(mine.guestIp, '172.16.0.2');
    assert.equal(theirs.guestIp, '172.16.1.2');
    const uids = await Promise.all([one, other].map(uidOfVm));
    assert.equal(Math.abs(uids[0]! - uids[1]!) % 10_000, 0, `uids ${uids}`);
    assert.notEqual(uids[0], uids[1]);
    await expectStatus(one, 404, 'GET', `/v1/vms/${theirs.id}`);
    await one.kill();
    await using again = await one.restart();
    await output(other, theirs.id, 'true');
    await output(again, mine.id, 'true');
  });

  it('refuse a directory that is in use', async () => {
    await using one = await startDaemon();
    for (const command of ['serve', 'teardown']) {
      const { code, stderr } = await runBerth([command], { BERTH_HOME: one.home });
      assert.equal(code, 1);
      assert.match(stderr, /another daemon uses/);
    }
    await expectStatus(one, 200, 'GET', '/v1/vms');
  });

  it('leave nothing on the network of the host once they are torn down', async () => {
    await using one = await startDaemon();
    assert.match((await runCommand('nft', ['list', 'tables'])).stdout, /berth_berth0/);
    await one.kill();
    const { code, stderr } = await runBerth(['teardown'], { BERTH_HOME: one.home });
    assert.equal(code, 0, stderr);
    assert.doesNotMatch((await runCommand('nft', ['list', 'tables'])).stdout, /berth_berth0/);
    assert.doesNotMatch((await runCommand('ip', ['link'])).stdout, /berth0/);
  });
});
