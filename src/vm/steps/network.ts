/** The steps of a VM's network interfaces on the host. */

import type { Network, VmNetwork } from '../../net/network.ts';
import type { OperationContext } from '../context.ts';
import type { Vm, VmNic } from '../model.ts';
import type { Step } from '../run-steps.ts';

/** What the network is asked for: one entry for each of the VM's interfaces, in their order. */
export function networksOf(vm: Vm): readonly VmNetwork[] {
  const addresses = vm.nics.map(addressesInUse);
  return vm.nics.map(({ addresses: lease, families, rxLimit, txLimit }, index) => ({
    vmId: vm.id,
    tap: lease.tap,
    mac: lease.mac,
    ipv4: lease.ipv4,
    ipv6: lease.ipv6,
    uid: vm.uid,
    egress: vm.egress,
    families,
    otherAddresses: addresses.toSpliced(index, 1).flat(),
    rxLimit,
    txLimit,
  }));
}

function addressesInUse({ families, addresses: { ipv4, ipv6 } }: VmNic): readonly string[] {
  return [...(families === 'ipv6' ? [] : [ipv4]), ...(families === 'ipv4' || ipv6 === null ? [] : [ipv6])];
}

/** Takes all of a VM's interfaces away: each is tried, whatever became of the others. */
export async function detachNetworks(network: Network, vm: Vm): Promise<void> {
  const failures: unknown[] = [];
  for (const nic of networksOf(vm)) await network.detach(nic).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

/** Rules and taps on the host. */
export const networkStep: Step<OperationContext> = {
  name: 'network',
  async run({ deps, vm }) {
    for (const nic of networksOf(vm)) await deps.network.attach(nic);
  },
  undo: ({ deps, vm }) => detachNetworks(deps.network, vm),
};

/** Takes the interfaces away, and what is allowed to them. */
export const removeNetworkStep: Step<OperationContext> = {
  name: 'network',
  run: ({ deps, vm }) => detachNetworks(deps.network, vm),
  async check({ deps, vm }) {
    for (const nic of networksOf(vm)) if (await deps.network.attached(nic)) return false;
    return true;
  },
};

/** A network without a way out: of what runs while a VM is nobody's, nothing leaves it. */
export const closedNetworkStep: Step<OperationContext> = {
  name: 'network',
  async run({ deps, vm }) {
    const egress = { outbound: false, allow: [] };
    for (const nic of networksOf(vm)) await deps.network.attach({ ...nic, egress });
  },
  undo: networkStep.undo!,
};

/** The VM's own egress, unless it has that already. */
export const egressStep: Step<OperationContext> = {
  name: 'egress',
  needed: ({ detail }) => detail.egressIsSet !== 1,
  run: networkStep.run,
};
