import { BerthError } from '../common/errors.ts';
import type { NetworkPlan } from '../net/network.ts';
import type { Vm, VmAddresses } from './model.ts';

/** How many uids a daemon hands out, from its base on. */
export const uidCount = 10_000;

/**
 * The lowest addresses no VM holds, so that released ones are used again. The store's UNIQUE columns have the last word.
 * Throws `quota_exceeded` when the network is full.
 */
export function allocateAddresses(vms: readonly Vm[], plan: NetworkPlan): VmAddresses {
  // Each by itself: leases from before a change of the network pair addresses with other taps.
  const taken = new Set(vms.flatMap(({ addresses: { ipv4, ipv6, mac, tap } }) => [ipv4, ipv6, mac, tap]));
  for (const ipv4 of plan.ipv4Pool.candidates()) {
    if (taken.has(ipv4)) continue;
    const lease = { ipv4, ipv6: plan.ipv6For(ipv4), mac: plan.macFor(ipv4), tap: plan.tapFor(ipv4) };
    const parts = [lease.ipv6, lease.mac, lease.tap];
    if (!parts.some((part) => part !== null && taken.has(part))) return lease;
  }
  throw new BerthError('quota_exceeded', { resource: 'Address', limit: `${plan.ipv4Pool.size}`, setting: 'network' });
}

/** The VM's own addresses, or new ones when the network was changed since and does not hold them. */
export function currentAddresses(vm: Vm, vms: readonly Vm[], plan: NetworkPlan): VmAddresses {
  if (plan.holds(vm.addresses)) return vm.addresses;
  return allocateAddresses(
    vms.filter(({ id }) => id !== vm.id),
    plan,
  );
}

/** The lowest free uid from `base` on; null when processes run under the daemon's own uid. */
export function allocateUid(vms: readonly Vm[], base: number | null): number | null {
  if (base === null) return null;
  const taken = new Set(vms.map((vm) => vm.uid));
  for (let uid = base; uid < base + uidCount; uid++) if (!taken.has(uid)) return uid;
  throw new BerthError('quota_exceeded', { resource: 'User id', limit: `${uidCount}`, setting: 'uids' });
}
