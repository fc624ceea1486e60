import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmNetwork } from './network.ts';
import {
  all,
  type BridgeLab,
  bridge,
  closed,
  destinations,
  type Guests,
  gateway4,
  gateway6,
  labForAll,
  limits,
  port,
  reachable,
  vms,
  world4,
  world6,
} from './testing/bridge-lab.ts';
import { configureGuest, type Namespace } from './testing/lab.ts';

let lab: BridgeLab;
let host: Namespace;
let world: Namespace;
let guests: Guests;

labForAll((opened) => {
  lab = opened;
  ({ host, world, guests } = lab);
});

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
