import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BerthError } from '../common/errors.ts';
import { createBridgePlan, linkLocalOf } from './bridge-plan.ts';
import { containsAddress, formatAddress, parseAddress, readInterface } from './cidr.ts';

const usual = { bridge: 'berth0', address4: '172.16.0.1/24', address6: 'fd62::1/64', resolver: true };

test('a /24 gives .2 to .254, lowest first', () => {
  const { ipv4Pool } = createBridgePlan(usual);
  const addresses = [...ipv4Pool.candidates()];
  assert.equal(addresses[0], '172.16.0.2');
  assert.equal(addresses.at(-1), '172.16.0.254');
  assert.equal(addresses.length, 253);
  assert.equal(ipv4Pool.size, 253);
});

test('what goes with a lease is made of its host number', () => {
  const plan = createBridgePlan({ ...usual, address4: '10.1.0.1/16' });
  assert.equal(plan.ipv6For('10.1.2.3'), 'fd62::203');
  assert.equal(plan.macFor('10.1.2.3'), '02:00:0a:01:02:03');
  assert.equal(plan.tapFor('10.1.2.3'), 'berth0-203');
  assert.deepEqual(plan.nameservers, ['10.1.0.1', 'fd62::1']);
});

test('without IPv6 and resolver there is none of either', () => {
  const plan = createBridgePlan({ ...usual, address6: null, resolver: false });
  assert.equal(plan.ipv6For('172.16.0.2'), null);
  assert.equal(plan.gateway6, null);
  assert.deepEqual(plan.nameservers, []);
});

test("only the bridge's own taps are its taps", () => {
  const plan = createBridgePlan(usual);
  assert.equal(plan.isTap('berth0-fe'), true);
  for (const name of ['berth0', 'berth0-', 'berth0-g', 'berth0-2 ', 'berth01-2', 'xberth0-2', 'berth0-2"']) {
    assert.equal(plan.isTap(name), false, name);
  }
});

test('the link-local address is that of the MAC (RFC 4291, appendix A)', () => {
  assert.equal(linkLocalOf('02:00:ac:10:00:02'), 'fe80::acff:fe10:2');
  assert.equal(linkLocalOf('34:56:78:9a:bc:de'), 'fe80::3656:78ff:fe9a:bcde');
});

const network = fc
  .tuple(fc.integer({ min: 0x01000000, max: 0xdfffffff }), fc.integer({ min: 8, max: 30 }))
  .map(([address, prefix]) => `${formatAddress(4, BigInt(address))}/${prefix}`)
  .filter((text) => {
    const { address, prefix } = readInterface(text);
    const host = address & ((1n << BigInt(32 - prefix)) - 1n);
    return host !== 0n && host !== (1n << BigInt(32 - prefix)) - 1n;
  });

test('the pool yields distinct hosts of the network, never the gateway, and as many as it says', () => {
  fc.assert(
    fc.property(network, (address4) => {
      const { ipv4Pool, network4, gateway4, prefix4, macFor, tapFor, ipv6For } = createBridgePlan({
        ...usual,
        bridge: 'b',
        address4,
        address6: `fd62::${(readInterface(address4).address & 0xffffn).toString(16)}:0:0:0/64`,
      });
      const broadcast = network4.address + (1n << BigInt(32 - prefix4)) - 1n;
      const seen = new Set<string>();
      let count = 0;
      for (const ipv4 of ipv4Pool.candidates()) {
        const { family, address } = parseAddress(ipv4);
        assert.ok(containsAddress(network4, family, address));
        assert.ok(address !== network4.address && address !== broadcast && ipv4 !== gateway4);
        seen
          .add(ipv4)
          .add(macFor(ipv4))
          .add(tapFor(ipv4))
          .add(ipv6For(ipv4) ?? '');
        if (++count === 100) break;
      }
      assert.equal(count, Math.min(100, ipv4Pool.size));
      assert.equal(seen.size, 4 * count);
    }),
  );
});

test('a large network costs nothing until it is used', () => {
  const { ipv4Pool } = createBridgePlan({ ...usual, address4: '10.0.0.1/8', address6: null });
  assert.equal(ipv4Pool.size, 2 ** 24 - 3);
  const [first] = ipv4Pool.candidates();
  assert.equal(first, '10.0.0.2');
});

test('bridges with different names have no tap in common', () => {
  const name = fc.stringMatching(/^[a-zA-Z][a-zA-Z0-9_]{0,11}$/);
  fc.assert(
    fc.property(name, name, fc.integer({ min: 2, max: 254 }), (one, other, host) => {
      fc.pre(one !== other);
      const tap = createBridgePlan({ ...usual, bridge: one }).tapFor(`172.16.0.${host}`);
      assert.ok(tap.length <= 15);
      assert.ok(createBridgePlan({ ...usual, bridge: one }).isTap(tap));
      const { isTap, tapPrefix } = createBridgePlan({ ...usual, bridge: other });
      assert.ok(!isTap(tap) && !tap.startsWith(tapPrefix));
    }),
  );
});

const unusable: readonly (readonly [string, Partial<typeof usual>])[] = [
  ['a network address', { address4: '172.16.0.0/24' }],
  ['a broadcast address', { address4: '172.16.0.255/24' }],
  ['a network without room', { address4: '172.16.0.1/31' }],
  ['a network too large', { address4: '16.0.0.1/7' }],
  ['IPv6 as IPv4', { address4: 'fd62::1/64' }],
  ['IPv4 as IPv6', { address6: '10.0.0.1/24' }],
  ['no room for IPv6', { address6: 'fd62::1/121' }],
  ['a gateway that a guest would get', { address6: 'fd62::5/64' }],
  ['an IPv6 network address', { address6: 'fd62::/64' }],
  ['a bridge name too long', { bridge: 'abcdefghijklm' }],
  ['a bridge name with a separator', { bridge: 'a-b' }],
  ['a bridge name that is a rule', { bridge: 'a"; drop' }],
  ['an empty bridge name', { bridge: '' }],
];

for (const [what, change] of unusable) {
  test(`${what} is refused`, () => {
    assert.throws(
      () => createBridgePlan({ ...usual, ...change }),
      (error) => error instanceof BerthError && error.code === 'invalid_argument',
    );
  });
}

test('an address outside the network is refused', () => {
  const plan = createBridgePlan(usual);
  for (const ipv4 of ['172.16.1.2', '172.16.0.0', '172.16.0.255', 'fd62::2']) {
    assert.throws(() => plan.tapFor(ipv4), BerthError, ipv4);
  }
});
