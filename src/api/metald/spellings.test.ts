/** The two vocabularies and the two styles of JSON: what may be sent, and what is sent back. */

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { openTestApi, smallConfig, type TestApi } from './testing/test-api.ts';

let api: TestApi;
before(async () => {
  api = await openTestApi();
});
after(() => api[Symbol.asyncDispose]());

describe('spellings', () => {
  it('of the reference and of the proto make the same VM', async () => {
    const reference = {
      cpu: { vcpu_count: 1, cpu_template: 'T2' },
      memory: { size_bytes: 134217728 },
      boot: { kernel_path: 'image:test', kernel_args: 'quiet' },
      storage: [{ device_id: 'rootfs', path_on_host: 'image:test', is_read_only: false, is_root_device: true }],
      network: [
        {
          interface_id: 'eth0',
          type: 'TAP',
          guest_mac: 'auto',
          rate_limit: { bandwidth_bytes_per_second: 104857600, burst_bytes: 1048576, refill_time_millis: 100 },
        },
      ],
      console: { type: 'VIRTIO_CONSOLE', output_file: '/tmp/vm-console.log' },
      metadata: { name: 'my-vm' },
    };
    const limit = { bandwidth: '104857600', refillTime: '100', burst: '1048576' };
    const proto = {
      cpu: { vcpuCount: '1', cpuTemplate: 'T2', futureField: [1] },
      memory: { sizeBytes: '134217728' },
      boot: { kernelPath: 'image:test', kernelArgs: 'quiet', initrdPath: null },
      storage: [{ id: 'rootfs', path: 'image:test', readOnly: false, isRootDevice: true }],
      network: [{ id: 'eth0', interfaceType: 'TAP', macAddress: 'auto', rxRateLimit: limit, txRateLimit: limit }],
      console: { consoleType: 'VIRTIO_CONSOLE', output: '/tmp/vm-console.log' },
      metadata: { name: 'my-vm' },
    };
    const replies = [];
    for (const config of [reference, proto]) {
      const created = await api.call('CreateVm', { vm_id: 'spelled', config });
      assert.equal(created.status, 200, JSON.stringify(created.json));
      const { json: info } = await api.call('GetVmInfo', { vmId: 'spelled' });
      replies.push(info.config);
      await api.call('DeleteVm', { vm_id: 'spelled' });
    }
    const [fromReference, fromProto] = replies;
    assert.deepEqual(fromReference, fromProto);
    assert.equal(fromReference.memory.size_bytes, 134217728);
    const [device] = fromReference.storage;
    assert.deepEqual([device.id, device.device_id, device.path], ['rootfs', 'rootfs', device.path_on_host]);
    const [nic] = fromReference.network;
    assert.deepEqual(nic.rate_limit, reference.network[0]?.rate_limit);
    assert.deepEqual(nic.rx_rate_limit, { bandwidth: 104857600, refill_time: 100, burst: 1048576 });
  });

  it('never come twice in one reply', async () => {
    await api.call('CreateVm', { vm_id: 'once', config: smallConfig });
    const { json: info } = await api.call('GetVmInfo', { vm_id: 'once' });
    assert.deepEqual(
      keysOf(info).filter((key) => /[A-Z]/.test(key)),
      [],
    );
    await api.call('DeleteVm', { vm_id: 'once' });
  });

  it('are those of the proto where that is set', async () => {
    await using other = await openTestApi({ style: 'proto' });
    assert.deepEqual((await other.call('ListVms', {})).json, {});
    await other.call('CreateVm', { vmId: 'p', config: smallConfig });
    const { json: list } = await other.call('ListVms', {});
    assert.deepEqual(
      keysOf(list).filter((key) => key.includes('_')),
      [],
    );
    assert.equal(list.vms[0].memorySizeBytes, '134217728');
    assert.equal((await other.call('PauseVm', { vmId: 'p' })).status, 400);
  });
});

function keysOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.flatMap(keysOf);
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, item]) => [key, ...keysOf(item)]);
}
