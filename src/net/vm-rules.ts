import { BerthError } from '../common/errors.ts';
import type { BridgePlan } from './bridge-plan.ts';
import { type Cidr, canonicalAddress, formatCidr, readCidr, withoutOverlap } from './cidr.ts';
import type { VmNetwork } from './network.ts';

/** A VM as the rules see it: checked and canonical, so that it can be put into a ruleset as it is. */
export interface VmRules {
  readonly vmId: string;
  readonly tap: string;
  readonly mac: string;
  readonly ipv4: string;
  readonly ipv6: string | null;
  /** CIDRs it may start connections to: disjoint; both empty when outbound is off. */
  readonly allow4: readonly string[];
  readonly allow6: readonly string[];
}

/**
 * @throws BerthError `conflict` when the lease is not of this network: it must not become a rule.
 * @throws BerthError `invalid_cidr`
 */
export function readVmRules(plan: BridgePlan, vm: VmNetwork): VmRules {
  if (!plan.holds(vm)) {
    throw new BerthError('conflict', {
      reason: 'The addresses of the VM do not belong to the network of this host any more; stop and start the VM',
    });
  }
  const allow = vm.egress.outbound ? vm.egress.allow.map(readCidr) : [];
  return {
    vmId: vm.vmId,
    tap: vm.tap,
    mac: vm.mac,
    ipv4: canonicalAddress(vm.ipv4),
    ipv6: vm.ipv6 === null ? null : canonicalAddress(vm.ipv6),
    allow4: disjoint(allow.filter((cidr) => cidr.family === 4)),
    allow6: disjoint(allow.filter((cidr) => cidr.family === 6)),
  };
}

/** Whether the VM may start any connection at all. */
export function hasEgress(vm: VmRules): boolean {
  return vm.allow4.length + vm.allow6.length > 0;
}

/** Interval sets refuse elements that overlap. */
function disjoint(cidrs: readonly Cidr[]): readonly string[] {
  return withoutOverlap(cidrs).map(formatCidr);
}
