import assert from 'node:assert/strict';
import { mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../src/common/command.ts';
import { createVm, expectStatus, output, smallVm, vmState, type WireVm } from './support/api.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';
import { noTraces, traces } from './support/leftovers.ts';

const MiB = 1024 * 1024;

describe('a host whose disk is full', () => {
  let home: string;
  let disk: string;
  let daemon: TestDaemon;
  let vm: WireVm;

  before(async () => {
    home = await mkdtemp('/tmp/berth-test-');
    // Room for the image and some hundred megabytes, nothing of it kept back for root.
    disk = `${home}.ext4`;
    await runCommand('truncate', ['-s', '1200M', disk]);
    await runCommand('mkfs.ext4', ['-q', '-m', '0', disk]);
    await runCommand('mount', ['-o', 'loop', disk, home]);
    daemon = await startDaemon({ home, env: { BERTH_DISK_RESERVE_MIB: '100', BERTH_ENGINE_RECONCILE_SECONDS: '1' } });
    vm = await createVm(daemon, { diskSizeMb: 2048 });
    await writeFile(join(home, 'ballast'), Buffer.alloc(200 * MiB, 1));
  });
  after(async () => {
    try {
      // By a fresh daemon, whatever state a failed test left the last one in.
      await daemon.kill();
      daemon = await daemon.restart();
      process.kill(daemon.pid, 'SIGTERM');
      await daemon.ended;
    } finally {
      await runCommand('umount', ['--lazy', home]);
      await rm(home, { recursive: true });
      await rm(disk);
    }
  });

  /** Has the guest write until the host has no room left; the command cannot come to an end. */
  async function fill(): Promise<void> {
    const response = await daemon.call('POST', `/v1/vms/${vm.id}/exec`, {
      cmd: 'yes > /workspace/fill',
      timeoutMs: 110_000,
    });
    assert.equal(response.status, 502, await response.text());
    const { bavail, bsize } = await statfs(home);
    assert.ok(bavail * bsize < 100 * MiB, `${bavail * bsize} bytes free`);
  }

  async function assertHeld(): Promise<void> {
    assert.equal(await vmState(daemon, vm.id), 'STOPPED');
    for (const [method, path, body] of [
      ['POST', `/v1/vms/${vm.id}/exec`, { cmd: 'true' }],
      ['POST', `/v1/vms/${vm.id}/start`, undefined],
    ] as const) {
      const { message } = await expectStatus<{ message: string }>(daemon, 507, method, path, body);
      assert.match(message, /disk of the host is full/);
    }
  }

  it('holds the VM that finds it full; calls to it and new VMs are refused', async () => {
    await output(daemon, vm.id, 'echo kept > /workspace/kept; sync');
    await fill();
    await assertHeld();
    await expectStatus(daemon, 507, 'POST', '/v1/vms', smallVm);
  });

  it('says so to whoever asks for its health', async () => {
    const response = await fetch(`${daemon.urls.metald}/health`);
    const { status, checks } = (await response.json()) as {
      status: string;
      checks: Record<string, { status: string }>;
    };
    assert.deepEqual(
      [response.status, status, checks.disk?.status, checks.store?.status],
      [503, 'unhealthy', 'unhealthy', 'healthy'],
    );
  });

  it('still does after the daemon was killed', async () => {
    await daemon.kill();
    daemon = await daemon.restart();
    await assertHeld();
  });

  it('lets the VM go on by itself when there is space', async () => {
    const before = await statfs(home);
    await rm(join(home, 'ballast'));
    await eventually('the VM runs', async () => (await vmState(daemon, vm.id)) === 'RUNNING');
    assert.equal(await output(daemon, vm.id, 'cat /workspace/kept'), 'kept\n');
    assert.ok((await statfs(home)).bavail > before.bavail);
  });

  it('takes the removal of a VM, which makes room for others', async () => {
    await fill();
    await assertHeld();
    await expectStatus(daemon, 204, 'DELETE', `/v1/vms/${vm.id}`);
    assert.deepEqual(await traces(home), noTraces);
    const next = await createVm(daemon);
    await output(daemon, next.id, 'true');
  });
});
