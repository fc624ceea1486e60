import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createBridgePlan } from '../net/bridge-plan.ts';
import { allocateAddresses, allocateUid, currentAddresses } from './leases.ts';
import type { Vm } from './model.ts';

const plan = createBridgePlan({ bridge: 'berth0', address4: '10.9.0.1/29', address6: 'fd00::1/64', resolver: false });

describe('leases', () => {
  it('are never held twice, are reused after release, and run out only when all are held', () => {
    // A history of creates (true) and removals of the oldest VM (false).
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 60 }), (history) => {
        let vms: Vm[] = [];
        let next = 0;
        for (const create of history) {
          if (!create) vms = vms.slice(1);
          else if (vms.length === plan.ipv4Pool.size) assert.throws(() => allocateAddresses(vms, plan), /quota/);
          else
            vms = [
              ...vms,
              { id: `${next++}`, addresses: allocateAddresses(vms, plan), uid: allocateUid(vms, 300_000) } as Vm,
            ];
          const leases: readonly (readonly unknown[])[] = [
            vms.map((vm) => vm.addresses.ipv4),
            vms.map((vm) => vm.addresses.ipv6),
            vms.map((vm) => vm.addresses.mac),
            vms.map((vm) => vm.addresses.tap),
            vms.map((vm) => vm.uid),
          ];
          for (const lease of leases) assert.equal(new Set(lease).size, vms.length);
        }
      }),
    );
  });

  it('begin with the lowest that is free', () => {
    const first = allocateAddresses([], plan);
    assert.equal(first.ipv4, '10.9.0.2');
    assert.equal(allocateAddresses([{ addresses: first } as Vm], plan).ipv4, '10.9.0.3');
    assert.equal(allocateUid([{ uid: 300_000 }, { uid: 300_002 }] as Vm[], 300_000), 300_001);
    assert.equal(allocateUid([], null), null);
  });

  it('are given anew when the network was changed, and clash with none from before', () => {
    const changed = createBridgePlan({
      bridge: 'berth0',
      address4: '10.9.1.1/29',
      address6: 'fd00::1/64',
      resolver: false,
    });
    const vms: Vm[] = [];
    for (const id of ['a', 'b']) vms.push({ id, addresses: allocateAddresses(vms, plan) } as Vm);
    const [first, second] = vms as [Vm, Vm];
    assert.deepEqual(currentAddresses(second, vms, plan), second.addresses);
    assert.deepEqual(currentAddresses(second, vms, changed), {
      ipv4: '10.9.1.3',
      ipv6: 'fd00::3',
      mac: '02:00:0a:09:01:03',
      tap: 'berth0-3',
    });
    assert.equal(allocateAddresses([first], changed).ipv4, '10.9.1.3');
    assert.equal(allocateAddresses(vms, changed).ipv4, '10.9.1.4');
  });
});
