import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createBridgePlan } from './bridge-plan.ts';
import type { VmNetwork } from './network.ts';
import { Namespace, plugGuest } from './testing/lab.ts';

/** VMs with limits and with several interfaces, in network namespaces: `host` runs the network, guests hang on veth pairs. */
const unique = `bi${process.pid}`;
const bridge = 'berth0';
const gateway4 = '172.16.0.1';
const gateway6 = 'fd62:6572::1';
const addresses = { bridge, address4: `${gateway4}/24`, address6: `${gateway6}/64` };
const plan = createBridgePlan({ ...addresses, resolver: false });
const port = 7000;
const bulkPort = 7100;
const bulkBytes = 3_000_000;
const limit = { bytesPerSecond: 1_000_000, burstBytes: 0 };
/** No burst is smaller than this. */
const burst = 128 * 1024;

function nicAt(vmId: string, ipv4: string, change: Partial<VmNetwork> = {}): VmNetwork {
  return {
    vmId,
    tap: plan.tapFor(ipv4),
    mac: plan.macFor(ipv4),
    ipv4,
    ipv6: plan.ipv6For(ipv4),
    uid: null,
    egress: { outbound: true, allow: ['0.0.0.0/0', '::/0'] },
    ...change,
  };
}

const slow = nicAt('slow', '172.16.0.2', { rxLimit: limit, txLimit: limit });
const [first, second] = [nicAt('two', '172.16.0.3'), nicAt('two', '172.16.0.4')];
const two = [
  { ...first, otherAddresses: [second.ipv4, second.ipv6 ?? ''] },
  { ...second, otherAddresses: [first.ipv4, first.ipv6 ?? ''] },
] as const;
const only6 = nicAt('only6', '172.16.0.5', { families: 'ipv6' });
const only4 = nicAt('only4', '172.16.0.6', { families: 'ipv4' });
const all = [slow, ...two, only6, only4];

let stateDir: string;
let host: Namespace;
let guests: Record<'slow' | 'two' | 'only6' | 'only4', Namespace>;

before(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'berth-net-'));
  host = await Namespace.create(`${unique}h`);
  guests = {
    slow: await Namespace.create(`${unique}s`),
    two: await Namespace.create(`${unique}t`),
    only6: await Namespace.create(`${unique}6`),
    only4: await Namespace.create(`${unique}4`),
  };
  await host.do('network', 'main', { ...addresses, resolver: false, stateDir });
  assert.equal(await host.do('call', 'main', 'reconcile', []), undefined);
  for (const vm of [slow, first, only6, only4])
    await plugGuest(guests[vm.vmId as keyof typeof guests], host, vm, { gateway4, gateway6 });
  await guests.two.ip(
    `link add eth1 address ${second.mac} type veth peer name ${second.tap} netns ${host.name}`,
    'link set eth1 up',
    `addr add ${second.ipv4}/24 dev eth1`,
    `addr add ${second.ipv6}/64 dev eth1 nodad`,
  );
  for (const vm of all) assert.equal(await host.do('call', 'main', 'attach', vm), undefined);
  await Promise.all([
    host.do('serve', port),
    host.do('serveBulk', bulkPort, bulkBytes),
    guests.slow.do('serve', port),
    guests.two.do('serve', port),
  ]);
});

after(async () => {
  await host.do('call', 'main', 'teardown');
  await Promise.all([host, ...Object.values(guests)].map((namespace) => namespace.remove()));
  await rm(stateDir, { recursive: true });
});

/** Nothing is asserted to be quick: faster than a limit is what no machine, however fast, may be. */
function shortestMs(bucketBytes: number): number {
  return ((bulkBytes - bucketBytes) / limit.bytesPerSecond) * 1000;
}

async function assertLimited(): Promise<void> {
  const sent = await guests.slow.do('push', gateway4, bulkPort, bulkBytes);
  // The packet filter's bucket holds a second's worth more.
  assert.ok(sent >= shortestMs(burst + limit.bytesPerSecond), `sent ${bulkBytes} bytes in ${sent} ms`);
  const received = await guests.slow.do('pull', gateway4, bulkPort + 1);
  assert.equal(received.bytes, bulkBytes);
  assert.ok(received.ms >= shortestMs(burst), `received ${bulkBytes} bytes in ${received.ms} ms`);
}

test('what a VM sends and receives is held to its limits', assertLimited);

test('limits hold after a reconcile on which all rules were gone', async () => {
  await host.run('nft', 'flush', 'ruleset');
  await host.run('tc', 'qdisc', 'del', 'dev', slow.tap, 'root');
  assert.equal(await host.do('call', 'main', 'reconcile', all), undefined);
  await assertLimited();
});

test('limits are as they were when somebody changed the rules', async () => {
  assert.deepEqual(await host.do('call', 'main', 'verify', all), []);
  const limits = () => host.run('nft', '-s', 'list', 'ruleset');
  const before = await limits();
  await host.run('nft', 'flush', 'chain', 'bridge', `berth_${bridge}`, 'from_guest');
  assert.deepEqual(await host.do('call', 'main', 'verify', all), []);
  assert.deepEqual((await limits()).split('\n').toSorted(), before.split('\n').toSorted());
});

test('traffic is counted as the guest sees it', async () => {
  const { rxBytes, txBytes } = await host.do('traffic', 'main', slow.tap);
  assert.ok(rxBytes >= 2 * bulkBytes && txBytes >= 2 * bulkBytes, `${rxBytes} received, ${txBytes} sent`);
});

test('a limit goes with its VM', async () => {
  const list = () => host.run('nft', 'list', 'limits');
  assert.match(await list(), new RegExp(`tx_${slow.tap}`));
  assert.equal(await host.do('call', 'main', 'detach', slow), undefined);
  assert.doesNotMatch(await list(), /tx_/);
});

test('a VM with two interfaces in one network is reached, and sends, by the addresses of both', async () => {
  for (const { ipv4, ipv6 } of two) {
    assert.equal(await host.do('tcp', ipv4, port), 'open', ipv4);
    assert.equal(await host.do('tcp', ipv6 ?? '', port), 'open', ipv6 ?? '');
    assert.equal(await guests.two.do('udp', gateway4, port, 'four', ipv4), 'open', ipv4);
    assert.equal(await guests.two.do('udp', gateway6, port, 'six', ipv6 ?? ''), 'open', ipv6 ?? '');
  }
});

test('but by no address that is not its own', async () => {
  await guests.two.ip('addr add 172.16.0.99/24 dev eth0');
  assert.equal(await guests.two.do('udp', gateway4, port, 'forged', '172.16.0.99'), 'blocked');
});

test('VMs do not reach each other, of whatever interface', async () => {
  const targets = two.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6 ?? '']);
  const probes = [guests.only4, guests.only6].flatMap((guest) => targets.map((ip) => guest.do('tcp', ip, port)));
  assert.deepEqual(new Set(await Promise.all(probes)), new Set(['blocked']));
});

test('an interface of one family has none of the other', async () => {
  assert.equal(await guests.only4.do('tcp', gateway4, port), 'open');
  assert.equal(await guests.only4.do('tcp', gateway6, port), 'blocked');
  assert.equal(await guests.only6.do('tcp', gateway6, port), 'open');
  assert.equal(await guests.only6.do('tcp', gateway4, port), 'blocked');
});
