import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createBridgePlan } from '../net/bridge-plan.ts';
import { createUserNetwork } from '../net/user-network.ts';
import { allocateNics, allocateUid, withCurrentLeases } from './leases.ts';
import { Ledger } from './ledger.ts';
import type { Vm } from './model.ts';
import type { CreateNic } from './request.ts';
import { sampleVm } from './testing/sample-vm.ts';

const options = { bridge: 'berth0', address4: '10.9.0.1/29', address6: 'fd00::1/64', resolver: false };
const plan = createBridgePlan(options);
const eth0: CreateNic = { name: 'eth0' };

function ledgerOf(vms: readonly Vm[]): Ledger {
  const ledger = new Ledger();
  for (const vm of vms) ledger.replace(undefined, vm);
  return ledger;
}

function vmWith(id: string, others: readonly Vm[] | Ledger, requests: readonly CreateNic[] = [eth0]): Vm {
  const ledger = others instanceof Ledger ? others : ledgerOf(others);
  const nics = allocateNics(requests, ledger, plan);
  return { ...sampleVm(1), id, nics, addresses: nics[0]!.addresses, uid: allocateUid(ledger, 300_000) };
}

function addressOf(request: Partial<CreateNic>, others: readonly Vm[] = []) {
  return allocateNics([{ ...eth0, ...request }], ledgerOf(others), plan)[0]!.addresses;
}

describe('leases', () => {
  it('are never held twice, are reused after release, and run out only when all are held', () => {
    // A history of creates, with so many interfaces, and of removals of the oldest VM (0).
    fc.assert(
      fc.property(fc.array(fc.nat(3), { maxLength: 60 }), (history) => {
        let vms: Vm[] = [];
        let next = 0;
        const ledger = new Ledger();
        for (const count of history) {
          const held = vms.flatMap((vm) => vm.nics);
          const requests = Array.from({ length: count }, (_, index) => ({ name: `eth${index}` }));
          if (count === 0) {
            ledger.replace(vms[0], undefined);
            vms = vms.slice(1);
          } else if (held.length + count > plan.ipv4Pool.size) {
            assert.throws(() => vmWith('x', ledger, requests), /quota/);
          } else {
            const vm = vmWith(`${next++}`, ledger, requests);
            assert.deepEqual(vm, { ...vmWith(vm.id, vms, requests) }, 'a ledger with a past gives the same');
            ledger.replace(undefined, vm);
            vms = [...vms, vm];
          }
          const nics = vms.flatMap((vm) => vm.nics.map(({ addresses }) => addresses));
          for (const key of ['ipv4', 'ipv6', 'mac', 'tap'] as const)
            assert.equal(new Set(nics.map((addresses) => addresses[key])).size, nics.length);
          assert.equal(new Set(vms.map((vm) => vm.uid)).size, vms.length);
        }
      }),
    );
  });

  it('begin with the lowest that is free', () => {
    const first = vmWith('a', []);
    assert.equal(first.addresses.ipv4, '10.9.0.2');
    assert.equal(vmWith('b', [first]).addresses.ipv4, '10.9.0.3');
    assert.equal(allocateUid(ledgerOf([first, { ...first, uid: 300_002 }]), 300_000), 300_001);
    assert.equal(allocateUid(new Ledger(), null), null);
  });

  it('are given anew when the network was changed, and clash with none from before', () => {
    const changed = createBridgePlan({ ...options, address4: '10.9.1.1/29' });
    const first = vmWith('a', []);
    const second = vmWith('b', [first]);
    const vms = [first, second];
    assert.equal(withCurrentLeases(second, ledgerOf(vms), plan), second);
    const moved = withCurrentLeases(second, ledgerOf(vms), changed);
    assert.deepEqual(moved.addresses, { ipv4: '10.9.1.3', ipv6: 'fd00::3', mac: '02:00:0a:09:01:03', tap: 'berth0-3' });
    assert.equal(moved.nics[0]?.addresses, moved.addresses);
    assert.equal(allocateNics([eth0], ledgerOf([first]), changed)[0]?.addresses.ipv4, '10.9.1.3');
    assert.equal(allocateNics([eth0], ledgerOf(vms), changed)[0]?.addresses.ipv4, '10.9.1.4');
  });
});

describe('addresses that are asked for', () => {
  it('are given, with the rest made to fit', () => {
    assert.deepEqual(addressOf({ ipv4: { address: '10.9.0.5', prefix: 29, gateway: '10.9.0.1' } }), {
      ipv4: '10.9.0.5',
      ipv6: 'fd00::5',
      mac: '02:00:0a:09:00:05',
      tap: 'berth0-5',
    });
    assert.deepEqual(addressOf({ mac: '02:AB:00:00:00:01', ipv6: { address: 'FD00::0:beef' } }), {
      ipv4: '10.9.0.2',
      ipv6: 'fd00::beef',
      mac: '02:ab:00:00:00:01',
      tap: 'berth0-2',
    });
  });

  it('are given before others of the VM take the lowest', () => {
    const nics = allocateNics([{ name: 'a' }, { name: 'b', ipv4: { address: '10.9.0.2' } }], new Ledger(), plan);
    assert.deepEqual(
      nics.map(({ name, addresses }) => [name, addresses.ipv4]),
      [
        ['a', '10.9.0.3'],
        ['b', '10.9.0.2'],
      ],
    );
  });

  it('are refused when they are held', () => {
    const other = vmWith('a', []);
    for (const request of [
      { ipv4: { address: '10.9.0.2' } },
      { ipv6: { address: 'fd00::2' } },
      { mac: '02:00:0a:09:00:02' },
    ])
      assert.throws(() => addressOf(request, [other]), { code: 'conflict' });
    const twice = [
      { name: 'a', mac: '02:00:00:00:00:09' },
      { name: 'b', mac: '02:00:00:00:00:09' },
    ];
    assert.throws(() => allocateNics(twice, new Ledger(), plan), { code: 'conflict' });
  });

  it('of a VM with a chosen IPv6 address are not given to the VM whose IPv4 address would go with them', () => {
    const other = vmWith('a', [], [{ ...eth0, ipv4: { address: '10.9.0.2' }, ipv6: { address: 'fd00::3' } }]);
    assert.equal(vmWith('b', [other]).addresses.ipv4, '10.9.0.4');
  });

  for (const [what, request] of [
    ['of another network', { ipv4: { address: '192.168.1.100' } }],
    ['of another IPv6 network', { ipv6: { address: '2001:db8::1' } }],
    ["that are the gateway's", { ipv4: { address: '10.9.0.1' } }],
    ["that are the IPv6 gateway's", { ipv6: { address: 'fd00::1' } }],
    ["that are the network's own", { ipv4: { address: '10.9.0.0' } }],
    ['for everybody', { ipv4: { address: '10.9.0.7' } }],
    ["that are the IPv6 network's own", { ipv6: { address: 'fd00::' } }],
    ['with another prefix', { ipv4: { address: '10.9.0.5', prefix: 24 } }],
    ['with another gateway', { ipv4: { address: '10.9.0.5', gateway: '10.9.0.2' } }],
    ['of the other family', { ipv4: { address: 'fd00::5' } }],
    ['that are none', { ipv6: { address: 'x' } }],
    ['with a MAC of nobody', { mac: '00:00:00:00:00:00' }],
    ['with a MAC of many', { mac: '01:00:00:00:00:01' }],
    ["with a MAC like a bridge's", { mac: '02:be:00:00:00:01' }],
  ] as const)
    it(`are refused ${what}`, () => {
      assert.throws(() => addressOf(request), { code: 'invalid_argument', message: /^network eth0: / });
    });

  it('are refused where a host has no such network', () => {
    const without6 = createBridgePlan({ ...options, address6: null });
    for (const request of [{ families: 'ipv6' as const }, { ipv6: { address: 'fd00::2' } }])
      assert.throws(() => allocateNics([{ ...eth0, ...request }], new Ledger(), without6), {
        code: 'invalid_argument',
      });
    const limit = { rxLimit: { bytesPerSecond: 1e6, burstBytes: 0 } };
    assert.throws(() => allocateNics([{ ...eth0, ...limit }], new Ledger(), createUserNetwork().plan), {
      code: 'unsupported',
    });
  });
});
