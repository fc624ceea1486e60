/** The metald API before real VMs: the reference's examples with real curl, customers, a killed daemon, a real Prometheus. */

import assert from 'node:assert/strict';
import { copyFile, lstat, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../src/common/command.ts';
import { exec } from './support/api.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';
import { noTraces, traces } from './support/leftovers.ts';
import { type Prometheus, startPrometheus } from './support/prometheus.ts';

// biome-ignore lint/suspicious/noExplicitAny: replies are asserted on, not typed.
type Json = any;

const env = {
  BERTH_DEV: '1',
  BERTH_LISTEN_METALD: '127.0.0.1:8080',
  BERTH_LISTEN_METALD_OPERATOR: '127.0.0.1:9464',
  BERTH_ASSETS_DIRECTORIES: '/assets',
};

/** The paths of the examples; a link, so that what is behind them is this test's own. */
const assets = '/assets';

const sandbox = { cpu: { vcpu_count: 1 }, memory: { size_bytes: 268_435_456 }, boot: { kernel_path: 'image:sandbox' } };

let daemon: TestDaemon;
let assetDirectory: string;
let prometheus: Prometheus;

before(async () => {
  assetDirectory = await mkdtemp('/tmp/berth-assets-');
  await copyFile(process.env.BERTH_TEST_ROOTFS!, join(assetDirectory, 'rootfs.ext4'));
  await copyFile(process.env.BERTH_TEST_KERNEL!, join(assetDirectory, 'vmlinux-5.10'));
  const found = await lstat(assets).catch(() => null);
  assert.ok(found === null || found.isSymbolicLink(), `${assets} is there already and is not this test's`);
  await rm(assets, { force: true });
  await symlink(assetDirectory, assets);
  daemon = await startDaemon({ env });
  prometheus = await startPrometheus('127.0.0.1:9464', 9090);
  await eventually('Prometheus reads the metrics', () => prometheus.targetIsUp());
  // An image's initramfs is made when a VM first asks for it.
  await call('CreateVm', { vm_id: 'first', config: sandbox });
  await call('DeleteVm', { vm_id: 'first' });
  await copyFile(join(daemon.home, 'images/sandbox/initrd'), join(assetDirectory, 'initrd'));
});
after(async () => {
  await prometheus?.[Symbol.asyncDispose]();
  await daemon?.stop();
  await rm(assets, { force: true });
  await rm(assetDirectory, { recursive: true, force: true });
});

/** Runs one curl command as a reader would. */
async function curl(command: string): Promise<{ status: number; json: Json }> {
  const { stdout } = await runCommand('sh', ['-euc', `curl -sS -w '\\n%{http_code}' ${command}`], {
    timeoutMs: 120_000,
  });
  const cut = stdout.lastIndexOf('\n');
  const body = stdout.slice(0, cut);
  return { status: Number(stdout.slice(cut + 1)), json: body === '' ? null : JSON.parse(body) };
}

/** A call as the reference shows it, with its token. */
async function call(name: string, body: string | object, customer = '123'): Promise<Json> {
  const { status, json } = await curl(`-X POST http://localhost:8080/vmprovisioner.v1.VmService/${name} \
    -H "Content-Type: application/json" \
    -H "Authorization: Bearer dev_customer_${customer}" \
    -d '${typeof body === 'string' ? body : JSON.stringify(body)}'`);
  assert.equal(status, 200, `${name}: ${JSON.stringify(json)}`);
  return json;
}

/** The reference's example of CreateVm, without its comments. */
const exampleConfig = `{
  "cpu": { "vcpu_count": 2, "cpu_template": "T2" },
  "memory": { "size_bytes": 1073741824 },
  "boot": {
    "kernel_path": "/assets/vmlinux-5.10",
    "kernel_args": "console=ttyS0 reboot=k panic=1",
    "initrd_path": "/assets/initrd"
  },
  "storage": [{
    "device_id": "rootfs",
    "path_on_host": "/assets/rootfs.ext4",
    "is_read_only": false,
    "is_root_device": true
  }],
  "network": [{
    "interface_id": "eth0",
    "type": "TAP",
    "guest_mac": "auto",
    "rate_limit": {
      "bandwidth_bytes_per_second": 104857600,
      "burst_bytes": 1048576,
      "refill_time_millis": 100
    }
  }],
  "console": { "type": "VIRTIO_CONSOLE", "output_file": "/tmp/vm-console.log" },
  "metadata": { "name": "my-vm", "project": "test" }
}`;

describe('the examples of the reference', () => {
  const vm = JSON.stringify({ vm_id: 'vm_1234567890' });

  it('list nothing at first', async () => {
    const { status, json } = await curl('-H "Authorization: Bearer dev_customer_123" http://localhost:8080/v1/vms');
    assert.deepEqual([status, json.vms, json.total_count], [200, [], 0]);
  });

  it('create a VM and boot it', async () => {
    const created = await call(
      'CreateVm',
      `{ "vm_id": "vm_1234567890", "config": ${exampleConfig}, "customer_id": "123" }`,
    );
    assert.deepEqual(created, { vm_id: 'vm_1234567890', state: 'VM_STATE_CREATED' });
    assert.deepEqual(await call('BootVm', vm), { success: true, state: 'VM_STATE_RUNNING' });
  });

  it('show it', async () => {
    await eventually('the guest has read its disk', async () => {
      return (await call('GetVmInfo', vm)).metrics.disk_read_bytes > 0;
    });
    const info = await call('GetVmInfo', vm);
    assert.equal(info.state, 'VM_STATE_RUNNING');
    assert.equal(info.config.storage[0].path_on_host, '/assets/rootfs.ext4');
    assert.equal(info.config.cpu.cpu_template, 'T2');
    assert.ok(info.metrics.cpu_time_nanos > 0 && info.metrics.memory_usage_bytes > 0);
    assert.match(await readFile(`/proc/${info.backend_info.process_id}/cmdline`, 'utf8'), /qemu/);
    const [nic] = info.network_info.interfaces;
    assert.match(nic.guest_mac, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    await runCommand('ip', ['link', 'show', 'dev', nic.tap_device]);
  });

  it('list it', async () => {
    const list = await call(
      'ListVms',
      '{ "state_filter": ["VM_STATE_RUNNING", "VM_STATE_PAUSED"], "page_size": 50, "page_token": "" }',
    );
    const [item] = list.vms;
    assert.deepEqual(
      [item.vm_id, item.state, item.config.metadata.name, list.total_count],
      ['vm_1234567890', 'VM_STATE_RUNNING', 'my-vm', 1],
    );
    assert.equal(new Date(item.created_at).toISOString(), item.created_at);
  });

  it('keep its console in its own directory', async () => {
    const path = join(daemon.home, 'vms/vm_1234567890/console/vm-console.log');
    await eventually('the kernel says something', async () => (await readFile(path, 'utf8')).includes('Linux version'));
  });

  it('pause it, resume it, shut it down and delete it', async () => {
    assert.deepEqual(await call('PauseVm', vm), { success: true, state: 'VM_STATE_PAUSED' });
    assert.deepEqual(await call('ResumeVm', vm), { success: true, state: 'VM_STATE_RUNNING' });
    const shutdown = '{ "vm_id": "vm_1234567890", "force": false, "timeout_seconds": 1 }';
    assert.deepEqual(await call('ShutdownVm', shutdown), { success: true, state: 'VM_STATE_SHUTDOWN' });
    assert.deepEqual(await call('DeleteVm', '{ "vm_id": "vm_1234567890", "force": false }'), { success: true });
    assert.deepEqual(await traces(daemon.home), noTraces);
  });

  it('tell its health', async () => {
    await eventually('the acceleration is known', async () => {
      return (await curl('http://localhost:8080/health')).json.status === 'healthy';
    });
  });
});

describe('two customers', () => {
  const ids = { a: 'vm-of-a', b: 'vm-of-b' };

  it('have VMs that do not reach each other', async () => {
    for (const customer of ['a', 'b'] as const) {
      await call('CreateVm', { vm_id: ids[customer], config: sandbox }, customer);
      await call('BootVm', { vm_id: ids[customer] }, customer);
    }
    const [addressOfA] = await addresses('a');
    await exec(daemon, ids.a, 'setsid python3 -m http.server 8080 >/dev/null 2>&1 &');
    const reach = async (from: string, address: string) =>
      (await exec(daemon, from, `curl -s -o /dev/null --max-time 2 http://${address}:8080/`)).exitCode;
    await eventually('the server answers in its own VM', async () => (await reach(ids.a, addressOfA!)) === 0);
    assert.notEqual(await reach(ids.b, addressOfA!), 0);
    // What it does reach is the daemon's own port, so that its network is known to work.
    assert.equal(await reach(ids.b, '172.16.0.1').then((code) => code === 0 || code === 7), true);
  });

  async function addresses(customer: 'a' | 'b'): Promise<string[]> {
    const { network_info: network } = await call('GetVmInfo', { vm_id: ids[customer] }, customer);
    return network.interfaces.map((nic: { ipv4_address: string }) => nic.ipv4_address);
  }

  it('do not see each other', async () => {
    assert.deepEqual(
      (await call('ListVms', {}, 'a')).vms.map((vm: { vm_id: string }) => vm.vm_id),
      [ids.a],
    );
    const { status } = await curl(`-X POST http://localhost:8080/vmprovisioner.v1.VmService/DeleteVm \
      -H "Content-Type: application/json" -H "Authorization: Bearer dev_customer_a" -d '{"vm_id":"${ids.b}","force":true}'`);
    assert.equal(status, 403);
  });

  it('find their VMs as they were after the daemon was killed', async () => {
    await call('PauseVm', { vm_id: ids.b }, 'b');
    await call('CreateVm', { vm_id: 'new', config: sandbox }, 'a');
    const look = async () => ({
      a: (await call('ListVms', {}, 'a')).vms,
      pids: [await pid('a'), await pid('b')],
      states: await Promise.all(
        (
          [
            ['new', 'a'],
            [ids.a, 'a'],
            [ids.b, 'b'],
          ] as const
        ).map(async ([vm_id, customer]) => (await call('GetVmInfo', { vm_id }, customer)).state),
      ),
    });
    const pid = async (customer: 'a' | 'b') =>
      (await call('GetVmInfo', { vm_id: ids[customer] }, customer)).backend_info.process_id;
    const before = await look();
    assert.deepEqual(before.states, ['VM_STATE_CREATED', 'VM_STATE_RUNNING', 'VM_STATE_PAUSED']);
    await daemon.kill();
    daemon = await daemon.restart();
    assert.deepEqual(await look(), before);
    assert.deepEqual(await call('ResumeVm', { vm_id: ids.b }, 'b'), { success: true, state: 'VM_STATE_RUNNING' });
  });
});

describe('the dashboard', () => {
  it('has data in each of its queries, from a real Prometheus that watched all this', async () => {
    const dashboard = JSON.parse(
      await readFile(new URL('../packaging/grafana/metald.json', import.meta.url), 'utf8'),
    ) as { panels: { title: string; targets?: { expr: string }[] }[] };
    const queries = dashboard.panels.flatMap(({ title, targets = [] }) =>
      targets.map(({ expr }) => ({
        title,
        expression: expr.replaceAll('$__rate_interval', '10m').replaceAll('$customer', '.*'),
      })),
    );
    assert.ok(queries.length > 20);
    let missing = queries;
    try {
      // What began a moment ago has been read once; a rate needs two readings.
      await eventually('each query finds something', async () => {
        const found = await Promise.all(missing.map(({ expression }) => prometheus.query(expression)));
        missing = missing.filter((_, index) => found[index]?.length === 0);
        return missing.length === 0;
      });
    } catch (error) {
      assert.deepEqual(missing, [], String(error));
    }
  });
});
