import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  all,
  type BridgeLab,
  bridge,
  closed,
  destinations,
  type Guests,
  labForAll,
  listed,
  reachable,
  vmAt,
  vms,
  world4,
  world6,
} from './testing/bridge-lab.ts';
import type { Namespace } from './testing/lab.ts';

let lab: BridgeLab;
let host: Namespace;
let guests: Guests;

labForAll((opened) => {
  lab = opened;
  ({ host, guests } = lab);
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
