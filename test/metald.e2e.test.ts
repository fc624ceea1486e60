/** The metald API before real VMs: the reference's examples with real curl, customers, a killed daemon, a real Prometheus. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFile, lstat, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../src/common/command.ts';
import { exec, output } from './support/api.ts';
import { curl } from './support/curl.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';
import { eventually } from './support/eventually.ts';
import { noTraces, traces } from './support/leftovers.ts';
import { exampleConfig, ipv4Example, ipv6Example } from './support/metald-examples.ts';
import { type Prometheus, startPrometheus } from './support/prometheus.ts';

// biome-ignore lint/suspicious/noExplicitAny: replies are asserted on, not typed.
type Json = any;

const env = {
  BERTH_DEV: '1',
  BERTH_LISTEN_METALD: '127.0.0.1:8080',
  BERTH_LISTEN_METALD_OPERATOR: '127.0.0.1:9464',
  BERTH_ASSETS_DIRECTORIES: '/assets',
  BERTH_NETWORK_ADDRESS: '192.168.1.1/24',
  BERTH_NETWORK_ADDRESS6: '2001:db8:1::1/64',
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

/** A call as the reference shows it, with its token. */
async function call(name: string, body: string | object, customer = '123'): Promise<Json> {
  const { status, json } = await curl(`-X POST http://localhost:8080/vmprovisioner.v1.VmService/${name} \
    -H "Content-Type: application/json" \
    -H "Authorization: Bearer dev_customer_${customer}" \
    -d '${typeof body === 'string' ? body : JSON.stringify(body)}'`);
  assert.equal(status, 200, `${name}: ${JSON.stringify(json)}`);
  return json;
}

describe('the examples of the reference', () => {
  const vm = JSON.stringify({ vm_id: 'vm_1234567890' });
  const example = (name: string, body: string) => call(name, body, 'customer-123');

  it('list nothing at first', async () => {
    const { status, json } = await curl('-H "Authorization: Bearer dev_customer_123" http://localhost:8080/v1/vms');
    assert.deepEqual([status, json.vms, json.total_count], [200, [], 0]);
  });

  it('create a VM and boot it', async () => {
    const created = await example(
      'CreateVm',
      `{ "vm_id": "vm_1234567890", "config": ${exampleConfig}, "customer_id": "customer-123" }`,
    );
    assert.deepEqual(created, { vm_id: 'vm_1234567890', state: 'VM_STATE_CREATED' });
    assert.deepEqual(await example('BootVm', vm), { success: true, state: 'VM_STATE_RUNNING' });
  });

  it('show it', async () => {
    await eventually('the guest has read its disk', async () => {
      return (await example('GetVmInfo', vm)).metrics.disk_read_bytes > 0;
    });
    const info = await example('GetVmInfo', vm);
    assert.equal(info.state, 'VM_STATE_RUNNING');
    assert.equal(info.config.storage[0].path_on_host, '/assets/rootfs.ext4');
    assert.equal(info.config.cpu.cpu_template, 'T2');
    assert.ok(info.metrics.cpu_time_nanos > 0 && info.metrics.memory_usage_bytes > 0);
    assert.match(await readFile(`/proc/${info.backend_info.process_id}/cmdline`, 'utf8'), /qemu/);
    const [nic] = info.network_info.interfaces;
    assert.match(nic.guest_mac, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    await runCommand('ip', ['link', 'show', 'dev', nic.tap_device]);
  });

  it('keep it from other customers', async () => {
    const { status, json } = await curl(`-X POST http://localhost:8080/vmprovisioner.v1.VmService/GetVmInfo \
      -H "Content-Type: application/json" -H "Authorization: Bearer dev_customer_123" -d '${vm}'`);
    const [detail] = json.details;
    assert.deepEqual(
      [status, json.code, json.message],
      [403, 'permission_denied', 'VM vm_1234567890 not found or not owned by customer'],
    );
    assert.deepEqual(
      [detail['@type'], detail.reason, detail.domain, detail.metadata],
      [
        'type.googleapis.com/google.rpc.ErrorInfo',
        'VM_NOT_OWNED',
        'metald.unkey.com',
        { vm_id: 'vm_1234567890', customer_id: '123' },
      ],
    );
  });

  it('list it', async () => {
    const list = await example(
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
    assert.deepEqual(await example('PauseVm', vm), { success: true, state: 'VM_STATE_PAUSED' });
    assert.deepEqual(await example('ResumeVm', vm), { success: true, state: 'VM_STATE_RUNNING' });
    const shutdown = '{ "vm_id": "vm_1234567890", "force": false, "timeout_seconds": 1 }';
    assert.deepEqual(await example('ShutdownVm', shutdown), { success: true, state: 'VM_STATE_SHUTDOWN' });
    assert.deepEqual(await example('DeleteVm', '{ "vm_id": "vm_1234567890", "force": false }'), { success: true });
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
  /** What a guest of either has on the wire: as the reference has it, beside a second interface, and with limits. */
  const limit = { bandwidth: 500_000 };
  const networks = {
    a: [JSON.parse(ipv4Example), { id: 'back', mac_address: '02:aa:00:00:00:01', mode: 'NETWORK_MODE_IPV4_ONLY' }],
    b: [{ ...JSON.parse(ipv6Example), rx_rate_limit: limit, tx_rate_limit: limit }],
  };
  const info = (customer: 'a' | 'b') => call('GetVmInfo', { vm_id: ids[customer] }, customer);

  it('have VMs with the interfaces they asked for, told in both shapes', async () => {
    for (const customer of ['a', 'b'] as const) {
      const config = { ...sandbox, network: networks[customer] };
      await call('CreateVm', { vm_id: ids[customer], config }, customer);
      await call('BootVm', { vm_id: ids[customer] }, customer);
    }
    const { network_info: network, config } = await info('a');
    const [front, back] = network.interfaces;
    assert.deepEqual([front.ipv4_address, back.guest_mac], ['192.168.1.100', '02:aa:00:00:00:01']);
    assert.deepEqual(
      [network.ip_address, network.mac_address, network.tap_device, network.gateway],
      [front.ipv4_address, front.guest_mac, front.tap_device, '192.168.1.1'],
    );
    assert.deepEqual([config.network[0].host_ipv4.gateway, config.network[1].id], ['192.168.1.254', 'back']);
    const shown = await output(daemon, ids.a, 'ip addr');
    for (const part of [front.ipv4_address, front.ipv6_address, front.guest_mac, back.ipv4_address, back.guest_mac])
      assert.ok(shown.includes(part), `${part} in ${shown}`);
    const { network_info: ofB } = await info('b');
    assert.equal(ofB.interfaces[0].ipv6_address, '2001:db8:1::100');
    assert.match(await output(daemon, ids.b, 'ip addr'), /2001:db8:1::100\/64/);
  });

  it('have VMs that do not reach each other', async () => {
    await exec(daemon, ids.a, 'setsid python3 -m http.server 8080 --bind :: >/dev/null 2>&1 &');
    /** What curl's exit code is for each of several addresses, all at once. */
    const reach = async (from: string, addresses: readonly string[]) => {
      const probe = 'curl -g -s -o /dev/null --max-time 2 "http://$a:8080/"; echo "$a $?"';
      const text = await output(daemon, from, `for a in ${addresses.join(' ')}; do (${probe}) & done; wait`);
      const codes = new Map(
        text
          .trimEnd()
          .split('\n')
          .map((line) => line.split(' ') as [string, string]),
      );
      return addresses.map((address) => Number(codes.get(address)));
    };
    const { interfaces } = (await info('a')).network_info;
    const targets: string[] = interfaces.flatMap((nic: Json) =>
      nic.ipv6_address === undefined ? [nic.ipv4_address] : [nic.ipv4_address, `[${nic.ipv6_address}]`],
    );
    assert.equal(targets.length, 3);
    await eventually('all of them answer in their own VM', async () =>
      (await reach(ids.a, targets)).every((code) => code === 0),
    );
    // What the other VM does reach is the daemon's own host, so that its network is known to work.
    const codes = await reach(ids.b, [...targets, '192.168.1.1', '[2001:db8:1::1]']);
    assert.ok(!codes.slice(0, 3).includes(0), `${targets} ended in ${codes}`);
    assert.deepEqual(codes.slice(3), [7, 7], 'refused, which only one who is reached can do');
  });

  it('have their traffic held to the limits of their interfaces', async () => {
    const bytes = 1_000_000;
    // No bucket holds less than this; that of what is sent holds a second's worth more.
    const burst = 128 * 1024;
    const server = createServer((request, response) => {
      if (request.method === 'GET') response.end(Buffer.alloc(bytes));
      else request.resume().on('end', () => response.end());
    });
    server.listen(0, '0.0.0.0');
    await once(server, 'listening');
    const url = `http://192.168.1.1:${(server.address() as AddressInfo).port}/`;
    // Nothing is asserted to be quick: faster than a limit is what no machine, however fast, may be.
    const atLeast = async (ms: number, command: string) => {
      const started = performance.now();
      await output(daemon, ids.b, command);
      const took = performance.now() - started;
      assert.ok(took >= ms, `${command} took ${took} ms`);
    };
    await atLeast(((bytes - burst) / limit.bandwidth) * 1000, `curl -sSf -o /dev/null ${url}`);
    const sent = bytes - burst - limit.bandwidth;
    await atLeast((sent / limit.bandwidth) * 1000, `head -c ${bytes} /dev/zero | curl -sSf -T - ${url}`);
    server.close();
  });

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
