import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { createBridgePlan } from './bridge-plan.ts';
import type { Egress, VmNetwork } from './network.ts';
import { addVm, fullRuleset, removeVm } from './nft-ruleset.ts';
import { readVmRules } from './vm-rules.ts';

const plan = createBridgePlan({ bridge: 'berth0', address4: '172.16.0.1/24', address6: 'fd62::1/64', resolver: true });
const vm: VmNetwork = {
  vmId: 'a',
  tap: 'berth0-2',
  mac: '02:00:ac:10:00:02',
  ipv4: '172.16.0.2',
  ipv6: 'fd62::2',
  uid: null,
  egress: { outbound: true, allow: ['10.0.0.0/8'] },
};

const settings = { bridge: 'berth0', table: 't', plan, limits: { connections: 0, dnsPerSecond: 0 } };

function withEgress(egress: Egress): string {
  return addVm(settings, readVmRules(plan, { ...vm, egress }));
}

test("a VM's rules bind its tap to its addresses and lead to its list", () => {
  assert.deepEqual(addVm(settings, readVmRules(plan, vm)).trim().split('\n'), [
    'add chain inet t vm_berth0-2',
    'add rule inet t vm_berth0-2 jump resolver',
    'add rule inet t vm_berth0-2 ip daddr 10.0.0.0/8 accept',
    'add element bridge t owners { "berth0-2" . 02:00:ac:10:00:02 }',
    'add element bridge t arp_senders { "berth0-2" . 02:00:ac:10:00:02 . 02:00:ac:10:00:02 . 172.16.0.2 }',
    'add element bridge t senders4 { "berth0-2" . 02:00:ac:10:00:02 . 172.16.0.2 }',
    'add element bridge t senders6 { "berth0-2" . 02:00:ac:10:00:02 . fd62::2 }',
    'add element bridge t solicitors6 { "berth0-2" . 02:00:ac:10:00:02 . fd62::2 }',
    'add element bridge t solicitors6 { "berth0-2" . 02:00:ac:10:00:02 . fe80::acff:fe10:2 }',
    'add element inet t egress4 { 172.16.0.2 : jump vm_berth0-2 }',
    'add element inet t egress6 { fd62::2 : jump vm_berth0-2 }',
  ]);
});

test('what a VM may use of what all share is limited before anything is allowed', () => {
  const limited = { ...settings, limits: { connections: 100, dnsPerSecond: 5 } };
  const rules = addVm(limited, readVmRules(plan, vm)).split('\n');
  assert.deepEqual(rules.slice(1, 4), [
    'add rule inet t vm_berth0-2 ct state new ct count over 100 drop',
    'add rule inet t vm_berth0-2 meta l4proto { tcp, udp } th dport 53 limit rate over 5/second burst 10 packets drop',
    'add rule inet t vm_berth0-2 jump resolver',
  ]);
});

test('an interface of one family, beside others of its VM, sends from its own and their addresses of that family', () => {
  const otherAddresses = ['172.16.0.9', 'FD62::9'];
  const rules = (families: 'ipv4' | 'ipv6') => addVm(settings, readVmRules(plan, { ...vm, families, otherAddresses }));
  assert.doesNotMatch(rules('ipv4'), /fd62|egress6|senders6/i);
  assert.match(rules('ipv4'), /senders4 \{ "berth0-2" \. 02:00:ac:10:00:02 \. 172\.16\.0\.9 \}/);
  assert.doesNotMatch(rules('ipv6'), /172\.16|egress4|senders4|arp/);
  assert.match(rules('ipv6'), /solicitors6 \{ "berth0-2" \. 02:00:ac:10:00:02 \. fd62::9 \}/);
});

test('what a VM sends is limited by a bucket that holds the largest packet', () => {
  const rules = addVm(settings, readVmRules(plan, { ...vm, txLimit: { bytesPerSecond: 5000, burstBytes: 1 } }));
  assert.match(rules, /^add limit bridge t tx_berth0-2 \{ rate over 5000 bytes\/second burst 131072 bytes ; \}$/m);
  assert.match(rules, /^add element bridge t tx_limits \{ "berth0-2" : "tx_berth0-2" \}$/m);
  for (const bytesPerSecond of [0, 999, 1.5, 1e12, Number.NaN])
    assert.throws(() => readVmRules(plan, { ...vm, rxLimit: { bytesPerSecond, burstBytes: 0 } }), /rate limit/);
});

test('removing takes out every element that adding put in, and the chain last', () => {
  const rules = readVmRules(plan, { ...vm, txLimit: { bytesPerSecond: 5000, burstBytes: 1 } });
  const added = addVm(settings, rules).match(/^add element .*$/gm) ?? [];
  const removed = removeVm('t', rules).trim().split('\n');
  assert.deepEqual(removed, [
    ...added.map((line) => line.replace(/^add/, 'delete')),
    'flush chain inet t vm_berth0-2',
    'delete chain inet t vm_berth0-2',
    'delete limit bridge t tx_berth0-2',
  ]);
});

test('a VM that may go nowhere is in no map that leads out', () => {
  for (const egress of [
    { outbound: false, allow: ['0.0.0.0/0', '::/0'] },
    { outbound: true, allow: [] },
  ]) {
    assert.doesNotMatch(withEgress(egress), /inet|chain|accept/);
  }
});

test('lists are disjoint; long ones become a set', () => {
  assert.match(
    withEgress({ outbound: true, allow: ['10.1.0.0/16', '10.0.0.0/8', '10.0.0.0/8'] }),
    /ip daddr 10\.0\.0\.0\/8 accept\nadd element/,
  );
  const many = Array.from({ length: 64 }, (_, index) => `2001:db8:${(index + 1).toString(16)}::/48`);
  const text = withEgress({ outbound: true, allow: many });
  assert.equal(text.match(/ip6 daddr/g)?.length, 1);
  assert.ok(many.every((cidr) => text.includes(` ${cidr}`)));
});

test('the whole ruleset replaces both tables in one go', () => {
  const text = fullRuleset(settings, [readVmRules(plan, vm)]);
  assert.ok(text.startsWith('add table bridge t\ndelete table bridge t\nadd table inet t\ndelete table inet t\n'));
  assert.equal(text.match(/^table /gm)?.length, 2);
});

test('without IPv6 no IPv6 frame passes', () => {
  const plan4 = createBridgePlan({ bridge: 'berth0', address4: '172.16.0.1/24', address6: null, resolver: false });
  const text = fullRuleset({ ...settings, plan: plan4 }, []);
  assert.doesNotMatch(text, /ether type ip6|dport 53|fd62|null|undefined/);
});

const misfits: readonly (readonly [string, Partial<VmNetwork>])[] = [
  ["another bridge's tap", { tap: 'berth1-2' }],
  ['a tap name that is a rule', { tap: 'berth0-2" accept' }],
  ['a multicast MAC', { mac: '03:00:ac:10:00:02' }],
  ['half a MAC', { mac: '02:00:ac' }],
  ['an address of another network', { ipv4: '172.17.0.2' }],
  ['the broadcast address', { ipv4: '172.16.0.255' }],
  ["the gateway's address", { ipv4: '172.16.0.1' }],
  ['an IPv6 address of another network', { ipv6: 'fd63::2' }],
  ["the gateway's IPv6 address", { ipv6: 'fd62:0::1' }],
];

for (const [what, change] of misfits) {
  test(`a VM with ${what} becomes no rule`, () => {
    assert.throws(() => readVmRules(plan, { ...vm, ...change }), { code: 'conflict' });
  });
}

test('a list entry that is no CIDR becomes no rule', () => {
  assert.throws(
    () => withEgress({ outbound: true, allow: ['10.0.0.0/8 } accept'] }),
    (error) => error instanceof BerthError && error.code === 'invalid_cidr',
  );
});
