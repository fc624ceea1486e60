import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { directoryStep, diskStep } from '../src/vm/steps/files.ts';
import { networkStep, removeNetworkStep } from '../src/vm/steps/network.ts';
import { launchStep } from '../src/vm/steps/process.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { noTraces, traces } from './support/leftovers.ts';

/**
 * The crash matrix for a VM with two disks and two interfaces that was only noted: the daemon is killed after each step
 * that leaves something of them on the host or takes it away, and what is there is counted.
 */
describe('a VM with two disks and two interfaces, and a daemon that is killed', () => {
  let daemon: TestDaemon;
  let assets: string;
  const id = 'two-of-each';

  before(async () => {
    assets = await mkdtemp('/tmp/berth-assets-');
    await writeFile(join(assets, 'data'), Buffer.alloc(1024 * 1024));
    daemon = await startDaemon({ env: env() });
  });
  after(async () => {
    await daemon?.stop();
    await rm(assets, { recursive: true });
  });

  function env(failpoint?: string): Record<string, string> {
    return {
      BERTH_DEV: '1',
      // What KVM is good for is not found out anew after each of the deaths.
      BERTH_ENGINE_ACCEL: 'tcg',
      BERTH_ASSETS_DIRECTORIES: assets,
      ...(failpoint === undefined ? {} : { BERTH_FAILPOINT: failpoint }),
    };
  }

  async function call(method: string, body: object, to = daemon): Promise<Record<string, unknown>> {
    const response = await fetch(`${to.urls.metald}/vmprovisioner.v1.VmService/${method}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer dev_customer_a' },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    assert.equal(response.status, 200, `${method}: ${text}`);
    return JSON.parse(text) as Record<string, unknown>;
  }

  async function dieAt(point: string, method: string, body: object): Promise<void> {
    await daemon.kill();
    const armed = await daemon.restart({ env: env(point) });
    await assert.rejects(call(method, body, armed), 'the call outlived the daemon');
    assert.equal(await armed.ended, null, 'the daemon was not killed');
    daemon = await armed.restart({ env: env() });
  }

  const create = () =>
    call('CreateVm', {
      vm_id: id,
      config: {
        cpu: { vcpu_count: 1 },
        memory: { size_bytes: 256 * 1024 * 1024 },
        boot: { kernel_path: 'image:sandbox' },
        storage: [
          { id: 'rootfs', path: 'image:sandbox', is_root_device: true },
          { id: 'data', path: join(assets, 'data') },
        ],
        network: [
          { id: 'eth0', tx_rate_limit: { bandwidth: 1_000_000 } },
          { id: 'eth1', rx_rate_limit: { bandwidth: 1_000_000 } },
        ],
      },
    });
  const stateOf = async () => (await call('GetVmInfo', { vm_id: id })).state;

  it('is noted, and has nothing on the host but its row', async () => {
    await create();
    const { rows, ...others } = await traces(daemon.home);
    const { rows: _, ...nothing } = noTraces;
    assert.deepEqual(rows, [`vm ${id} created`]);
    assert.deepEqual(others, nothing);
  });

  for (const step of [directoryStep, diskStep, networkStep, launchStep]) {
    it(`is as before when the daemon dies after the step ${step.name} of its start`, async () => {
      await dieAt(`start.${step.name}.after`, 'BootVm', { vm_id: id });
      assert.equal(await stateOf(), 'VM_STATE_CREATED');
      assert.deepEqual(await traces(daemon.home), { ...noTraces, rows: [`vm ${id} created`] });
    });
  }

  it('starts after all that, with both of each', async () => {
    assert.equal((await call('BootVm', { vm_id: id })).state, 'VM_STATE_RUNNING');
    const { taps, rules, processes } = await traces(daemon.home);
    // Addresses of two interfaces, and the limit of one.
    assert.deepEqual([taps.length, rules.length, processes.length], [2, 3, 1]);
    await daemon.kill();
    daemon = await daemon.restart({ env: env() });
    assert.equal(await stateOf(), 'VM_STATE_RUNNING');
    assert.equal((await traces(daemon.home)).rules.length, 3);
  });

  it('is gone when the daemon dies while its interfaces are still there', async () => {
    await dieAt(`remove.${removeNetworkStep.name}.before`, 'DeleteVm', { vm_id: id, force: true });
    assert.deepEqual(await traces(daemon.home), noTraces);
  });
});
