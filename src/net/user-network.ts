import { BerthError } from '../common/errors.ts';
import type { EngineNic } from '../engine/engine.ts';
import { createAddressPool } from './address-pool.ts';
import { isGuestMac, macOf } from './bridge-plan.ts';
import { containsAddress, parseAddress, readCidr } from './cidr.ts';
import type { Egress, Network, NetworkPlan, Traffic, VmNetwork } from './network.ts';

export interface UserNetworkOptions {
  /**
   * Lets VMs with `0.0.0.0/0` and `::/0` out. They then reach whatever the daemon's user reaches, services on the host's
   * loopback included, which is why it is not the default.
   */
  readonly allowUnfiltered?: boolean;
}

/** QEMU's user-mode network: always this one, separate for every VM. */
const network = readCidr('10.0.2.0/24');
const gateway = '10.0.2.2';
const resolver = '10.0.2.3';

/**
 * VM networking without privileges: each VM has a user-mode network to itself. Nothing can be filtered there, so a VM is
 * either shut in, or open where the operator allows that; what lies between is refused as `unsupported`.
 */
export function createUserNetwork(options: UserNetworkOptions = {}): Network {
  return new UserNetwork(options.allowUnfiltered ?? false);
}

/** Addresses that QEMU itself answers for, and the network's own. */
const reserved = ['10.0.2.0', '10.0.2.1', gateway, resolver, '10.0.2.255'].map((text) => parseAddress(text).address);

function isGuestAddress(text: string): boolean {
  const { family, address } = parseAddress(text);
  return containsAddress(network, family, address) && !reserved.includes(address);
}

const plan: NetworkPlan = {
  kind: 'user',
  prefix4: network.prefix,
  gateway4: gateway,
  prefix6: null,
  gateway6: null,
  nameservers: [resolver],
  ipv4Pool: createAddressPool(network, reserved),
  ipv6For: () => null,
  macFor: (ipv4) => macOf(parseAddress(ipv4).address),
  tapFor: (ipv4) => `user-${(parseAddress(ipv4).address - network.address).toString(16)}`,
  contains: isGuestAddress,
  holds: ({ mac, ipv4, ipv6 }) => isGuestMac(mac) && ipv6 === null && isGuestAddress(ipv4),
};

class UserNetwork implements Network {
  readonly plan = plan;
  readonly #allowUnfiltered: boolean;

  constructor(allowUnfiltered: boolean) {
    this.#allowUnfiltered = allowUnfiltered;
  }

  /** Nothing of a user-mode network outlives its VM's process. */
  async reconcile(): Promise<void> {}

  async attach(vm: VmNetwork): Promise<void> {
    this.#isRestricted(vm.egress);
    if (vm.rxLimit || vm.txLimit) throw new BerthError('unsupported', { feature: 'A rate limit (it needs root)' });
  }

  async detach(): Promise<void> {}

  async attached(): Promise<boolean> {
    return true;
  }

  async verify(): Promise<readonly string[]> {
    return [];
  }

  nic(vm: VmNetwork): EngineNic {
    return { name: 'net0', backend: { kind: 'user', restrict: this.#isRestricted(vm.egress) }, mac: vm.mac };
  }

  /** Nobody counts what goes through QEMU's own network. */
  async traffic(): Promise<ReadonlyMap<string, Traffic>> {
    return new Map();
  }

  async onNextPacket(): Promise<() => void> {
    return () => {};
  }

  async diagnose(): ReturnType<Network['diagnose']> {
    return [
      {
        check: 'network',
        ok: true,
        detail: 'user mode: no egress allow-lists, no connections from the host to guest addresses',
        advice: 'Run as root for bridge networking.',
      },
    ];
  }

  async close(): Promise<void> {}

  async teardown(): Promise<void> {}

  /** @throws BerthError `unsupported` when what is asked cannot be enforced. */
  #isRestricted(egress: Egress): boolean {
    if (!egress.outbound || egress.allow.length === 0) return true;
    const everything = ['0.0.0.0/0', '::/0'].every((cidr) => egress.allow.includes(cidr));
    if (this.#allowUnfiltered && everything) return false;
    throw new BerthError('unsupported', { feature: 'Outbound network with an allow list (it needs root)' });
  }
}
