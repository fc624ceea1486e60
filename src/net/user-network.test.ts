import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError } from '../common/errors.ts';
import type { Egress, VmNetwork } from './network.ts';
import { createUserNetwork } from './user-network.ts';

const full: Egress = { outbound: true, allow: ['0.0.0.0/0', '::/0'] };

function vmWith(egress: Egress): VmNetwork {
  const { plan } = createUserNetwork();
  const ipv4 = '10.0.2.4';
  return {
    vmId: 'a',
    tap: plan.tapFor(ipv4),
    mac: plan.macFor(ipv4),
    ipv4,
    ipv6: plan.ipv6For(ipv4),
    uid: null,
    egress,
  };
}

const isUnsupported = (error: unknown): boolean => error instanceof BerthError && error.code === 'unsupported';

test('a lease of a bridge is none of its own', () => {
  const { plan } = createUserNetwork();
  const own = vmWith(full);
  assert.equal(plan.holds(own), true);
  assert.equal(plan.holds({ ...own, ipv4: '172.16.0.4' }), false);
  assert.equal(plan.holds({ ...own, ipv6: 'fd00::4' }), false);
});

test('the pool leaves out what QEMU itself uses', () => {
  const { ipv4Pool } = createUserNetwork().plan;
  const addresses = [...ipv4Pool.candidates()];
  assert.equal(addresses[0], '10.0.2.4');
  assert.equal(addresses.length, 251);
  assert.equal(ipv4Pool.size, 251);
});

test('a VM that may go nowhere is shut in', async () => {
  const network = createUserNetwork();
  for (const egress of [
    { outbound: false, allow: ['0.0.0.0/0'] },
    { outbound: true, allow: [] },
  ]) {
    await network.attach(vmWith(egress));
    assert.deepEqual(network.nic(vmWith(egress)).backend, { kind: 'user', restrict: true });
  }
});

test('what cannot be enforced is refused', async () => {
  const refused: readonly Egress[] = [
    { outbound: true, allow: ['10.0.0.0/8'] },
    { outbound: true, allow: ['0.0.0.0/0'] },
    { outbound: true, allow: ['::/0'] },
  ];
  for (const egress of [...refused, full]) {
    await assert.rejects(createUserNetwork().attach(vmWith(egress)), isUnsupported);
    assert.throws(() => createUserNetwork().nic(vmWith(egress)), isUnsupported);
  }
  for (const egress of refused) {
    await assert.rejects(createUserNetwork({ allowUnfiltered: true }).attach(vmWith(egress)), isUnsupported);
  }
});

test('everything is open where the operator allows it', async () => {
  const network = createUserNetwork({ allowUnfiltered: true });
  await network.attach(vmWith(full));
  assert.deepEqual(network.nic(vmWith(full)).backend, { kind: 'user', restrict: false });
});
