import type { BridgePlan } from './bridge-plan.ts';
import {
  type Cidr,
  containsAddress,
  formatAddress,
  formatCidr,
  parseAddress,
  readCidr,
  withoutOverlap,
} from './cidr.ts';
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
 * @throws Error when the VM does not fit the bridge: such a lease must not become a rule.
 * @throws BerthError `invalid_cidr`
 */
export function readVmRules(plan: BridgePlan, vm: VmNetwork): VmRules {
  const ipv4 = readGuestAddress(plan.network4, plan.gateway4, vm.ipv4);
  const ipv6 = vm.ipv6 === null ? null : readGuestAddress(plan.network6, plan.gateway6, vm.ipv6);
  const unicastMac = /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(vm.mac);
  if (!plan.isTap(vm.tap) || !unicastMac || ipv4 === undefined || ipv6 === undefined) {
    throw new Error(`VM ${vm.vmId} does not fit the network: ${vm.tap} ${vm.mac} ${vm.ipv4} ${vm.ipv6}`);
  }
  const allow = vm.egress.outbound ? vm.egress.allow.map(readCidr) : [];
  return {
    vmId: vm.vmId,
    tap: vm.tap,
    mac: vm.mac,
    ipv4,
    ipv6,
    allow4: disjoint(allow.filter((cidr) => cidr.family === 4)),
    allow6: disjoint(allow.filter((cidr) => cidr.family === 6)),
  };
}

/** Whether the VM may start any connection at all. */
export function hasEgress(vm: VmRules): boolean {
  return vm.allow4.length + vm.allow6.length > 0;
}

function readGuestAddress(network: Cidr | null, gateway: string | null, text: string): string | undefined {
  const { family, address } = parseAddress(text);
  const canonical = formatAddress(family, address);
  return network !== null && containsAddress(network, family, address) && canonical !== gateway ? canonical : undefined;
}

/** Interval sets refuse elements that overlap. */
function disjoint(cidrs: readonly Cidr[]): readonly string[] {
  return withoutOverlap(cidrs).map(formatCidr);
}
