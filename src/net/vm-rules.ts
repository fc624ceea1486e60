import { BerthError } from '../common/errors.ts';
import type { BridgePlan } from './bridge-plan.ts';
import { type Cidr, canonicalAddress, formatCidr, readCidr, withoutOverlap } from './cidr.ts';
import type { RateLimit, VmNetwork } from './network.ts';
import { checkRateLimit } from './rate-limit.ts';

/** A VM's interface as the rules see it: checked and canonical, so that it can be put into a ruleset as it is. */
export interface VmRules {
  readonly vmId: string;
  readonly tap: string;
  readonly mac: string;
  /** Its own addresses, null where it has none of the family. */
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  /** Addresses it may send from: its own first. */
  readonly senders4: readonly string[];
  readonly senders6: readonly string[];
  /** CIDRs it may start connections to: disjoint; both empty when outbound is off. */
  readonly allow4: readonly string[];
  readonly allow6: readonly string[];
  readonly rxLimit: RateLimit | null;
  readonly txLimit: RateLimit | null;
}

/**
 * @throws BerthError `conflict` when the lease is not of this network: it must not become a rule.
 * @throws BerthError `invalid_cidr`, `invalid_argument`
 */
export function readVmRules(plan: BridgePlan, vm: VmNetwork): VmRules {
  if (!plan.holds(vm)) {
    throw new BerthError('conflict', {
      reason: 'The addresses of the VM do not belong to the network of this host any more; stop and start the VM',
    });
  }
  const families = vm.families ?? 'dual';
  const ipv4 = families === 'ipv6' ? null : canonicalAddress(vm.ipv4);
  const ipv6 = families === 'ipv4' || vm.ipv6 === null ? null : canonicalAddress(vm.ipv6);
  const others = (vm.otherAddresses ?? []).map(canonicalAddress);
  const allow = vm.egress.outbound ? vm.egress.allow.map(readCidr) : [];
  return {
    vmId: vm.vmId,
    tap: vm.tap,
    mac: vm.mac,
    ipv4,
    ipv6,
    senders4: ipv4 === null ? [] : [ipv4, ...others.filter((address) => !address.includes(':'))],
    senders6: ipv6 === null ? [] : [ipv6, ...others.filter((address) => address.includes(':'))],
    allow4: disjoint(allow.filter((cidr) => cidr.family === 4)),
    allow6: disjoint(allow.filter((cidr) => cidr.family === 6)),
    rxLimit: vm.rxLimit ? checkRateLimit(vm.rxLimit) : null,
    txLimit: vm.txLimit ? checkRateLimit(vm.txLimit) : null,
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
