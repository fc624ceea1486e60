import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createBridgePlan } from './bridge-plan.ts';
import type { Egress, VmNetwork } from './network.ts';
import { configureGuest, Namespace, plugGuest } from './testing/lab.ts';

/**
 * Everything in network namespaces: `host` runs the network, `world` is what lies behind its uplink and knows no route to
 * the guests, and the guests hang on veth pairs whose other ends have the names of taps.
 */
const unique = `bt${process.pid}`;
const bridge = 'berth0';
const gateway4 = '172.16.0.1';
const gateway6 = 'fd62:6572::1';
const limits = { connections: 60, dnsPerSecond: 20 };
const addresses = { bridge, address4: `${gateway4}/24`, address6: `${gateway6}/64` };
const plan = createBridgePlan({ ...addresses, resolver: true });

const world4 = ['198.51.100.2', '198.51.100.3'] as const;
const world6 = ['2001:db8:1::2', '2001:db8:1::3'] as const;
const port = 7000;

const closed: Egress = { outbound: false, allow: ['0.0.0.0/0', '::/0'] };
const listed: Egress = { outbound: true, allow: [`${world4[0]}/32`, `${world6[0]}/128`] };
const everything: Egress = { outbound: true, allow: ['0.0.0.0/0', '::/0'] };

function vmAt(ipv4: string, egress: Egress): VmNetwork {
  return {
    vmId: `vm-${ipv4}`,
    tap: plan.tapFor(ipv4),
    mac: plan.macFor(ipv4),
    ipv4,
    ipv6: plan.ipv6For(ipv4),
    uid: null,
    egress,
  };
}

const vms = {
  closed: vmAt('172.16.0.2', closed),
  listed: vmAt('172.16.0.3', listed),
  open: vmAt('172.16.0.4', everything),
  empty: vmAt('172.16.0.5', { outbound: true, allow: [] }),
};
const all = Object.values(vms);

let stateDir: string;
let host: Namespace;
let world: Namespace;
let guests: Record<keyof typeof vms, Namespace>;

before(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'berth-net-'));
  host = await Namespace.create(`${unique}h`);
  world = await Namespace.create(`${unique}w`);
  await host.ip(
    `link add up0 type veth peer name eth0 netns ${world.name}`,
    'addr add 198.51.100.1/24 dev up0',
    'addr add 2001:db8:1::1/64 dev up0 nodad',
    'link set up0 up',
  );
  await world.ip(
    ...world4.map((address) => `addr add ${address}/24 dev eth0`),
    `addr add ${world6[0]}/64 dev eth0 nodad`,
    // Not chosen as source: UDP servers answer from the address the route prefers.
    `addr add ${world6[1]}/64 dev eth0 nodad preferred_lft 0`,
    'link set eth0 up',
  );
  guests = {
    closed: await Namespace.create(`${unique}c`),
    listed: await Namespace.create(`${unique}l`),
    open: await Namespace.create(`${unique}o`),
    empty: await Namespace.create(`${unique}e`),
  };
  await host.run('sysctl', '-q', 'net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0');
  await startNetwork();
  assert.equal(await host.do('call', 'main', 'reconcile', []), undefined);
  assert.deepEqual(await forwarding(), ['1', '1']);
  for (const name of Object.keys(vms) as (keyof typeof vms)[])
    await plugGuest(guests[name], host, vms[name], { gateway4, gateway6 });
  // At once: the network itself puts them in order.
  await Promise.all(all.map(async (vm) => assert.equal(await host.do('call', 'main', 'attach', vm), undefined)));
  await Promise.all([
    host.do('serve', port),
    world.do('serve', port),
    world.do('serveDns'),
    ...Object.values(guests).map((guest) => guest.do('serve', port)),
  ]);
});

after(async () => {
  // By a fresh daemon, whatever state a failed test left the last one in.
  await host.kill();
  await startNetwork();
  await host.do('call', 'main', 'teardown');
  await Promise.all([host, world, ...Object.values(guests)].map((namespace) => namespace.remove()));
  await rm(stateDir, { recursive: true });
});

/** A network's are all that are called after its bridge. */
async function taps(of = bridge): Promise<readonly string[]> {
  const links = JSON.parse(await host.run('ip', '-j', 'link')) as { ifname: string }[];
  return links.map(({ ifname }) => ifname).filter((name) => name.startsWith(`${of}-`));
}

/** Whether the host routes IPv4 and IPv6. */
async function forwarding(): Promise<readonly string[]> {
  const settings = await host.run('sysctl', '-n', 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding');
  return settings.trim().split('\n');
}

function startNetwork(): Promise<void> {
  return host.do('network', 'main', { ...addresses, limits, resolver: { upstream: [world4[0]] }, stateDir });
}

/** Which of the destinations answer over TCP. */
async function reachable(guest: Namespace, destinations: readonly string[]): Promise<readonly string[]> {
  const probes = await Promise.all(destinations.map((destination) => guest.do('tcp', destination, port)));
  return destinations.filter((_, index) => probes[index] === 'open');
}

const destinations = [...world4, ...world6, gateway4, gateway6, '198.51.100.1', '2001:db8:1::1'];

test('a VM whose outbound is off reaches nothing, whatever its list says', async () => {
  assert.deepEqual(await reachable(guests.closed, destinations), []);
  assert.equal(await guests.closed.do('udp', world4[0], port, 'closed-4'), 'blocked');
  assert.equal(await guests.closed.do('udp', gateway6, port, 'closed-6'), 'blocked');
});

test('a VM with an empty list reaches nothing', async () => {
  assert.deepEqual(await reachable(guests.empty, destinations), []);
});

test('a VM reaches exactly what its list names', async () => {
  assert.deepEqual(await reachable(guests.listed, destinations), [world4[0], world6[0]]);
  assert.equal(await guests.listed.do('udp', world4[0], port, 'listed-4'), 'open');
  assert.equal(await guests.listed.do('udp', world4[1], port, 'listed-neighbour'), 'blocked');
});

test('everything includes the gateway and the host', async () => {
  assert.deepEqual(await reachable(guests.open, destinations), destinations);
});

test("connections leave with the host's address", async () => {
  assert.equal(await guests.listed.do('hold', 'nat4', world4[0], port), '::ffff:198.51.100.1');
  assert.equal(await guests.listed.do('hold', 'nat6', world6[0], port), '2001:db8:1::1');
});

test('the host reaches every VM, and nobody else does', async () => {
  const addressesOfAll = all.flatMap((vm) => [vm.ipv4, vm.ipv6 ?? '']);
  assert.deepEqual(await reachable(host, addressesOfAll), addressesOfAll);
  await world.ip('route add 172.16.0.0/24 via 198.51.100.1', 'route add fd62:6572::/64 via 2001:db8:1::1');
  assert.deepEqual(await reachable(world, addressesOfAll), []);
  await world.ip('route del 172.16.0.0/24', 'route del fd62:6572::/64');
});

test('the resolver answers VMs with a list, over IPv4 and IPv6, and nobody else', async () => {
  for (const server of [gateway4, gateway6]) {
    assert.equal(await guests.listed.do('resolve', server), '192.0.2.7');
    assert.equal(await guests.open.do('resolve', server), '192.0.2.7');
    assert.equal(await guests.closed.do('resolve', server), 'ETIMEOUT');
    assert.equal(await guests.empty.do('resolve', server), 'ETIMEOUT');
  }
  assert.equal(await guests.listed.do('tcp', gateway4, 53), 'open');
  assert.equal(await guests.closed.do('tcp', gateway4, 53), 'blocked');
  await world.ip('route add 172.16.0.1 via 198.51.100.1');
  assert.equal(await world.do('tcp', gateway4, 53), 'blocked');
  assert.equal(await world.do('tcp', gateway4, port), 'open');
  await world.ip('route del 172.16.0.1');
});

test('a VM cannot use up what all share: connections the host keeps track of, and the resolver', async () => {
  const opened = await Promise.all(
    Array.from({ length: limits.connections + 20 }, (_, n) => guests.open.do('udp', world4[0], port, `flow-${n}`)),
  );
  const open = opened.filter((probe) => probe === 'open').length;
  assert.ok(open > 0 && open <= limits.connections, `${open} connections`);
  assert.equal(await guests.open.do('tcp', world4[0], port), 'blocked');
  assert.deepEqual(await reachable(guests.listed, destinations), [world4[0], world6[0]]);

  // New rules count anew.
  assert.equal(await host.do('call', 'main', 'attach', vms.open), undefined);
  const asked = await Promise.all(Array.from({ length: 80 }, () => guests.listed.do('resolve', gateway4)));
  assert.ok(asked.includes('192.0.2.7') && asked.includes('ETIMEOUT'), asked.join());
});

test('guests do not reach each other, on the wire or through the gateway', async () => {
  const { open, listed: target } = vms;
  const macOfBridge = await guests.open.run('cat', '/sys/class/net/eth0/address');
  assert.equal(macOfBridge.trim(), open.mac);
  const [link] = JSON.parse(await host.run('ip', '-j', 'link', 'show', 'dev', bridge)) as { address: string }[];
  for (const mac of [target.mac, link?.address]) {
    await guests.open.ip(
      `neigh replace ${target.ipv4} lladdr ${mac} dev eth0 nud permanent`,
      `neigh replace ${target.ipv6} lladdr ${mac} dev eth0 nud permanent`,
    );
    assert.equal(await guests.open.do('udp', target.ipv4, port, 'from-guest-4'), 'blocked');
    assert.equal(await guests.open.do('udp', target.ipv6 ?? '', port, 'from-guest-6'), 'blocked');
  }
  await guests.open.ip(`neigh del ${target.ipv4} dev eth0`, `neigh del ${target.ipv6} dev eth0`);
  assert.equal(await host.do('udp', target.ipv4, port, 'from-host'), 'open');
  const got = await guests.listed.do('received');
  assert.deepEqual(
    got.filter((message) => message.startsWith('from-')),
    ['from-host'],
  );
});

test('a VM cannot speak with another address, MAC or destination group', async () => {
  const guest = guests.listed;
  const own = vms.listed;
  const [link] = JSON.parse(await host.run('ip', '-j', 'link', 'show', 'dev', bridge)) as { address: string }[];
  const victim = vms.open;
  const gatewayIs = (mac: string | undefined): string[] => [
    `neigh replace ${gateway4} lladdr ${mac} dev eth0 nud permanent`,
    `neigh replace ${gateway6} lladdr ${mac} dev eth0 nud permanent`,
  ];

  // Asking for the gateway under the victim's address is not answered.
  await guest.ip(`addr flush dev eth0`, `addr add ${victim.ipv4}/24 dev eth0`);
  assert.equal(await guest.do('udp', gateway4, port, 'spoof-arp'), 'blocked');
  const neighbours = JSON.parse(await guest.run('ip', '-j', 'neigh', 'show', gateway4)) as { lladdr?: string }[];
  assert.deepEqual(
    neighbours.filter(({ lladdr }) => lladdr !== undefined),
    [],
  );

  // Knowing the gateway's MAC does not help.
  await guest.ip(
    ...gatewayIs(link?.address),
    `addr add ${victim.ipv6}/64 dev eth0 nodad`,
    `addr add ${own.ipv4}/24 dev eth0`,
    `addr add ${own.ipv6}/64 dev eth0 nodad`,
    `route add default via ${gateway4}`,
    `route replace ::/0 via ${gateway6}`,
  );
  assert.equal(await guest.do('udp', gateway4, port, 'spoof-ip4', victim.ipv4), 'blocked');
  assert.equal(await guest.do('udp', gateway6, port, 'spoof-ip6', victim.ipv6 ?? ''), 'blocked');
  assert.equal(await guest.do('udp', world4[0], port, 'own-ip4', own.ipv4), 'open');
  assert.equal(await guest.do('udp', world6[0], port, 'own-ip6', own.ipv6 ?? ''), 'open');

  // The reserved group addresses are delivered past the bridge's own hooks.
  await guest.ip(...gatewayIs('01:80:c2:00:00:0e'));
  assert.equal(await guest.do('udp', gateway4, port, 'spoof-group-victim', victim.ipv4), 'blocked');
  assert.equal(await guest.do('udp', gateway6, port, 'spoof-group-victim-6', victim.ipv6 ?? ''), 'blocked');
  assert.equal(await guest.do('udp', gateway4, port, 'spoof-group-own', own.ipv4), 'blocked');

  // Another MAC, and back.
  await guest.ip('link set eth0 address 02:00:00:00:00:99');
  assert.equal(await guest.do('udp', world4[0], port, 'spoof-mac', own.ipv4), 'blocked');
  await configureGuest(guest, own, { gateway4, gateway6 });
  assert.equal(await guest.do('udp', world4[0], port, 'own-again', own.ipv4), 'open');

  const arrived = [...(await host.do('received')), ...(await world.do('received'))];
  assert.deepEqual(
    arrived.filter((message) => message.startsWith('spoof')),
    [],
  );
});

test('what the bridge has to flood reaches nobody but the VM it is for', async () => {
  const count = `chain c { type filter hook ingress device eth0 priority 0; ether daddr ${vms.open.mac} counter\n }\n`;
  await guests.closed.run('nft', `table netdev seen { ${count} }`);
  await guests.open.run('nft', `table netdev seen { ${count} }`);
  await host.ip(`link set ${bridge} type bridge fdb_flush`);
  assert.equal(await host.do('udp', vms.open.ipv4, port, 'flooded'), 'open');
  assert.match(await guests.open.run('nft', 'list table netdev seen'), /packets [1-9]/);
  assert.match(await guests.closed.run('nft', 'list table netdev seen'), /packets 0 /);
});

test("a VM cannot take over another VM's address at the host", async () => {
  const neighbours = JSON.parse(await host.run('ip', '-j', 'neigh', 'show', 'dev', bridge)) as {
    dst: string;
    lladdr: string;
    state: string[];
  }[];
  for (const vm of all) {
    for (const address of [vm.ipv4, vm.ipv6]) {
      const entry = neighbours.find(({ dst }) => dst === address);
      assert.deepEqual([entry?.lladdr, entry?.state], [vm.mac, ['PERMANENT']]);
    }
  }
});

test('an address does not pass connections on to the next VM that gets it', async () => {
  await guests.open.do('hold', 'inherited', world4[0], port);
  assert.equal(await guests.open.do('echo', 'inherited', 'first'), true);
  const next: VmNetwork = { ...vms.open, vmId: 'next', egress: closed };
  assert.equal(await host.do('call', 'main', 'attach', next), undefined);
  await assert.rejects(guests.open.do('echo', 'inherited', 'second'), /no data came/);
  assert.equal(await host.do('call', 'main', 'attach', vms.open), undefined);
});

test('a real tap is made, owned, isolated and removed', async () => {
  const vm = { ...vmAt('172.16.0.9', listed), uid: 65534 };
  assert.equal(await host.do('call', 'main', 'attach', vm), undefined);
  assert.equal(await host.do('call', 'main', 'attach', vm), undefined, 'attach is idempotent');
  const [link] = JSON.parse(await host.run('ip', '-d', '-j', 'link', 'show', 'dev', vm.tap)) as {
    master: string;
    flags: string[];
    inet6_addr_gen_mode: string;
    linkinfo: { info_kind: string; info_data: { type: string; user: string }; info_slave_data: { isolated: boolean } };
  }[];
  assert.equal(link?.master, bridge);
  assert.ok(link.flags.includes('UP'));
  assert.equal(link.inet6_addr_gen_mode, 'none');
  assert.equal(link.linkinfo.info_data.type, 'tap');
  assert.equal(link.linkinfo.info_data.user, 'nobody');
  assert.equal(link.linkinfo.info_slave_data.isolated, true);
  assert.equal(await host.do('call', 'main', 'attached', vm), true);

  assert.equal(await host.do('call', 'main', 'detach', vm), undefined);
  assert.equal(await host.do('call', 'main', 'detach', vm), undefined, 'detach is idempotent');
  assert.equal(await host.do('call', 'main', 'attached', vm), false);
  const rules = await host.run('nft', 'list', 'ruleset');
  assert.ok(!rules.includes(vm.ipv4) && !rules.includes(vm.tap) && !rules.includes(vm.mac));
  assert.ok(!(await host.run('ip', 'neigh', 'show', 'dev', bridge)).includes(vm.mac));
});

test('rules that the kernel refuses fail the attach and leave nothing', async () => {
  const clash = { ...vmAt('172.16.0.10', listed), ipv4: vms.open.ipv4 };
  const rulesBefore = await host.run('nft', '-s', 'list', 'ruleset');
  assert.equal(await host.do('call', 'main', 'attach', clash), 'network_failed');
  assert.equal(await host.run('nft', '-s', 'list', 'ruleset'), rulesBefore);
  assert.ok(!(await host.run('ip', '-br', 'link')).includes(clash.tap));
});

test('a tap that cannot be made takes its rules with it', async () => {
  const vm = vmAt('172.16.0.11', listed);
  const rulesBefore = await host.run('nft', '-s', 'list', 'ruleset');
  assert.equal(await host.do('call', 'main', 'attach', { ...vm, uid: 2 ** 40 }), 'network_failed');
  await host.ip(`link property add dev up0 altname ${vm.tap}`);
  assert.equal(await host.do('call', 'main', 'attach', vm), 'network_failed');
  await host.ip(`link property del dev up0 altname ${vm.tap}`);
  assert.equal(await host.run('nft', '-s', 'list', 'ruleset'), rulesBefore);
  assert.ok(!(await host.run('ip', '-br', 'link')).includes(vm.tap));
});

test('rules that somebody else flushed come back with the next change', async () => {
  await host.run('nft', 'flush', 'ruleset');
  const vm = vmAt('172.16.0.12', listed);
  assert.equal(await host.do('call', 'main', 'attach', vm), undefined);
  assert.equal(await host.do('call', 'main', 'detach', vm), undefined);
  assert.deepEqual(await reachable(guests.closed, destinations), []);
  assert.deepEqual(await reachable(guests.listed, destinations), [world4[0], world6[0]]);
});

test('verifying finds nothing to do where nobody changed anything', async () => {
  const before = await host.run('nft', 'list', 'ruleset');
  assert.deepEqual(await host.do('call', 'main', 'verify', all), []);
  assert.equal(await host.run('nft', 'list', 'ruleset'), before);
});

for (const [what, change] of [
  ['flushed everything', ['flush', 'ruleset']],
  ['let a VM out', ['insert', 'rule', 'inet', `berth_${bridge}`, 'from_guest', 'accept']],
  ['took a VM its way out', ['flush', 'chain', 'inet', `berth_${bridge}`, `vm_${vms.listed.tap}`]],
  [
    'let a VM speak with an address of another',
    ['add', 'element', 'bridge', `berth_${bridge}`, 'senders4', `{ "berth0-2" . ${vms.closed.mac} . 172.16.0.4 }`],
  ],
] as const) {
  test(`rules are put back when somebody ${what}`, async () => {
    const rulesOf = async () => (await host.run('nft', '-s', 'list', 'ruleset')).split('\n').toSorted();
    const before = await rulesOf();
    await host.run('nft', ...change);
    assert.notDeepEqual(await rulesOf(), before);
    assert.deepEqual(await host.do('call', 'main', 'verify', all), []);
    assert.deepEqual(await rulesOf(), before);
  });
}

test('bridge and taps are put back in order, and a tap that is gone is reported', async () => {
  const { listed: vm, open } = vms;
  await host.ip(`link set ${vm.tap} nomaster`, `link set ${open.tap} type bridge_slave isolated off`);
  await host.ip(`link set ${bridge} down`, `addr flush dev ${bridge}`);
  await host.run('sysctl', '-q', 'net.ipv4.ip_forward=0');
  const gone = vmAt('172.16.0.13', closed);
  assert.equal(await host.do('call', 'main', 'attach', gone), undefined);
  await host.ip(`link del ${gone.tap}`);
  assert.deepEqual(await host.do('call', 'main', 'verify', [...all, gone]), [gone.vmId]);
  assert.deepEqual(await reachable(guests.listed, destinations), [world4[0], world6[0]]);
  assert.equal(await host.do('call', 'main', 'attached', open), true);
  assert.equal(await host.do('call', 'main', 'detach', gone), undefined);
  assert.deepEqual(await host.do('call', 'main', 'verify', all), []);
});

test('a second bridge beside the first touches nothing of it', async (t) => {
  const other = createBridgePlan({ bridge: 'berth1', address4: '172.17.0.1/24', address6: null, resolver: false });
  const vm: VmNetwork = {
    ...vmAt('172.16.0.2', everything),
    vmId: 'other',
    ipv4: '172.17.0.2',
    ipv6: null,
    mac: other.macFor('172.17.0.2'),
    tap: other.tapFor('172.17.0.2'),
  };
  const guest = await Namespace.create(`${unique}x`);
  t.after(() => guest.remove());
  await host.do('network', 'other', {
    bridge: 'berth1',
    address4: '172.17.0.1/24',
    address6: null,
    resolver: false,
    stateDir: join(stateDir, 'other'),
  });
  assert.equal(await host.do('call', 'other', 'reconcile', []), undefined);
  await guest.ip(
    `link add eth0 address ${vm.mac} type veth peer name ${vm.tap} netns ${host.name}`,
    'link set eth0 up',
    `addr add ${vm.ipv4}/24 dev eth0`,
    'route add default via 172.17.0.1',
  );
  assert.equal(await host.do('call', 'other', 'attach', vm), undefined);
  assert.deepEqual(await reachable(guest, [world4[1], '172.17.0.1', vms.open.ipv4]), [world4[1], '172.17.0.1']);
  assert.deepEqual(await reachable(guests.open, [vm.ipv4]), []);
  assert.equal(await guest.do('tcp', gateway4, 53), 'blocked');
  assert.equal(await host.do('call', 'main', 'reconcile', all), undefined);
  assert.equal(await host.do('call', 'other', 'attached', vm), true);
  assert.equal(await host.do('call', 'other', 'teardown'), undefined);
  assert.ok(!(await host.run('nft', 'list', 'tables')).includes('berth1'));
  assert.ok(!(await host.run('ip', '-br', 'link')).includes('berth1'));
  assert.equal(await host.do('call', 'main', 'attached', vms.open), true);
});

test('leases from before a change of the addresses are cut off and can be detached', async (t) => {
  const old = { bridge: 'moved0', address4: '172.19.0.1/24', address6: null, resolver: false as const };
  const oldPlan = createBridgePlan(old);
  const vmOfOld = (ipv4: string): VmNetwork => ({
    ...vmAt('172.16.0.2', everything),
    vmId: `old-${ipv4}`,
    ipv4,
    ipv6: null,
    mac: oldPlan.macFor(ipv4),
    tap: oldPlan.tapFor(ipv4),
  });
  const running = vmOfOld('172.19.0.2');
  const stopped = vmOfOld('172.19.0.3');
  await host.do('network', 'old', { ...old, stateDir: join(stateDir, 'other') });
  t.after(() => host.do('call', 'moved', 'teardown'));
  assert.equal(await host.do('call', 'old', 'reconcile', []), undefined);
  assert.equal(await host.do('call', 'old', 'attach', running), undefined);

  await host.do('network', 'moved', { ...old, address4: '172.20.0.1/24', stateDir: join(stateDir, 'other') });
  assert.equal(await host.do('call', 'moved', 'reconcile', [running]), undefined);
  const [link] = JSON.parse(await host.run('ip', '-j', 'link', 'show', 'dev', running.tap)) as {
    master?: string;
    flags: string[];
  }[];
  assert.deepEqual([link?.master, link?.flags.includes('UP')], [undefined, false]);
  assert.ok(!(await host.run('nft', 'list', 'ruleset')).includes(running.ipv4));
  assert.equal(await host.do('call', 'moved', 'attach', running), 'conflict');
  assert.equal(await host.do('call', 'moved', 'attached', running), true, 'there is something to detach');

  assert.equal(await host.do('call', 'moved', 'detach', running), undefined);
  assert.equal(await host.do('call', 'moved', 'attached', running), false);
  assert.deepEqual(await taps(old.bridge), []);
  const next = { ...running, vmId: 'next', ipv4: '172.20.0.2' };
  assert.equal(await host.do('call', 'moved', 'attach', next), undefined);
  assert.equal(await host.do('call', 'moved', 'detach', running), undefined);
  assert.equal(await host.do('call', 'moved', 'attached', next), true, 'the tap is that of its next owner');
  await host.ip(`tuntap add dev ${stopped.tap} mode tap`);
  assert.equal(await host.do('call', 'moved', 'detach', stopped), undefined);
  assert.deepEqual(await taps(old.bridge), [next.tap]);
});

test('an interface of somebody else is not taken over', async () => {
  await host.ip('link add foreign0 type bridge');
  await host.do('network', 'foreign', {
    bridge: 'foreign0',
    address4: '172.18.0.1/24',
    address6: null,
    resolver: false,
    stateDir: join(stateDir, 'other'),
  });
  assert.equal(await host.do('call', 'foreign', 'reconcile', []), 'network_failed');
  assert.equal(await host.do('call', 'foreign', 'teardown'), 'network_failed');
  await host.ip('link del foreign0');
  assert.equal(await host.do('call', 'foreign', 'teardown'), undefined);
});

test("diagnose finds nothing wrong, and Docker's default when it is there", async () => {
  type Finding = { check: string; ok: boolean; detail: string };
  const bad = async (): Promise<readonly string[]> =>
    ((await host.do('call', 'main', 'diagnose')) as Finding[]).filter(({ ok }) => !ok).map(({ check }) => check);
  assert.deepEqual(await bad(), []);
  await host.run(
    'nft',
    'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }',
  );
  await host.ip('route add 172.16.0.128/25 dev up0');
  assert.deepEqual(await bad(), ['other firewalls', 'addresses']);
  await host.ip('route del 172.16.0.128/25 dev up0');
  await host.run('nft', 'delete table ip filter');
});

test('after a crash, reconcile keeps connections, removes strays and replaces the resolver', async () => {
  const argv = ['dnsmasq', '--keep-in-foreground', `--conf-file=${stateDir}/resolver.conf`];
  await guests.open.do('hold', 'kept', world4[1], port);
  assert.equal(await guests.open.do('echo', 'kept', 'before'), true);
  const earlier = await host.do('findProcesses', argv);
  assert.equal(earlier.length, 1);

  await host.kill();
  await host.ip(`tuntap add dev ${plan.tapFor('172.16.0.77')} mode tap`);
  assert.deepEqual(await host.do('findProcesses', argv), earlier, 'the resolver outlives the daemon');
  assert.equal(await guests.listed.do('resolve', gateway4), '192.0.2.7');

  await startNetwork();
  assert.equal(await host.do('call', 'main', 'reconcile', all), undefined);
  assert.equal(await guests.open.do('echo', 'kept', 'after'), true);
  const later = await host.do('findProcesses', argv);
  assert.equal(later.length, 1);
  assert.notDeepEqual(later, earlier);
  assert.equal(await guests.listed.do('resolve', gateway4), '192.0.2.7');
  assert.deepEqual(
    await taps(),
    all.map(({ tap }) => tap),
  );
  assert.deepEqual(await reachable(guests.listed, destinations.slice(0, 4)), [world4[0], world6[0]]);
});

test('a resolver that dies comes back', async () => {
  const argv = ['dnsmasq', '--keep-in-foreground', `--conf-file=${stateDir}/resolver.conf`];
  const [earlier] = await host.do('findProcesses', argv);
  assert.ok(earlier);
  process.kill(earlier, 'SIGKILL');
  await assert.doesNotReject(async () => {
    for (let tries = 0; (await guests.listed.do('resolve', gateway4)) !== '192.0.2.7'; tries++) {
      if (tries === 20) throw new Error('the resolver did not come back');
    }
  });
});

test('closing leaves the resolver to VMs that run on; the next daemon takes over', async () => {
  await host.do('call', 'main', 'close');
  await host.kill();
  assert.equal(await guests.listed.do('resolve', gateway4), '192.0.2.7');
  await startNetwork();
  assert.equal(await host.do('call', 'main', 'reconcile', all), undefined);
  assert.equal(await guests.listed.do('resolve', gateway4), '192.0.2.7');
});

test("detach takes the VM's network away at once; teardown leaves the host as it was", async () => {
  assert.equal(await host.do('call', 'main', 'detach', vms.open), undefined);
  assert.ok(!(await host.run('nft', 'list', 'ruleset')).includes(vms.open.ipv4));
  assert.deepEqual(
    await taps(),
    [vms.closed, vms.listed, vms.empty].map(({ tap }) => tap),
  );
  assert.equal(await host.do('call', 'main', 'teardown'), undefined);
  assert.equal(await host.run('nft', 'list', 'ruleset'), '');
  assert.deepEqual(await forwarding(), ['0', '0']);
  const links = JSON.parse(await host.run('ip', '-j', 'link')) as { ifname: string }[];
  assert.deepEqual(
    links.map(({ ifname }) => ifname),
    ['lo', 'up0'],
  );
  assert.deepEqual(
    await host.do('findProcesses', ['dnsmasq', '--keep-in-foreground', `--conf-file=${stateDir}/resolver.conf`]),
    [],
  );
});
