/** VM networking on the host: what the VM service asks for. Implementations: the bridge (root) and user mode (no root). */

import type { EngineNic } from '../engine/engine.ts';

export interface Egress {
  /** False blocks everything out of the VM, the gateway included, whatever `allow` says. */
  readonly outbound: boolean;
  /** Canonical IPv4/IPv6 CIDRs (see `parseCidr`) the VM may start connections to when `outbound`; empty: none. */
  readonly allow: readonly string[];
}

/** A token bucket for one direction. */
export interface RateLimit {
  readonly bytesPerSecond: number;
  /** What may pass at once after a pause; raised to 128 KiB, which the largest packet of a guest fits into. */
  readonly burstBytes: number;
}

/** Which of its addresses an interface uses; packets of the other family do not pass. */
export type IpFamilies = 'dual' | 'ipv4' | 'ipv6';

/** One network interface of a VM. */
export interface VmNetwork {
  readonly vmId: string;
  /** Tap device name, unique on the host, at most 15 characters. */
  readonly tap: string;
  readonly mac: string;
  readonly ipv4: string;
  readonly ipv6: string | null;
  /** uid that may open the tap, null for root. */
  readonly uid: number | null;
  readonly egress: Egress;
  /** Default `dual`. */
  readonly families?: IpFamilies;
  /**
   * Addresses of the VM's other interfaces. A guest with two in one network sends from any of its addresses through the
   * first (what an address is bound to is the machine, on Linux), so they may come from this interface too.
   */
  readonly otherAddresses?: readonly string[];
  /** Of what comes to the guest; omitted or null: no limit. */
  readonly rxLimit?: RateLimit | null;
  /** Of what the guest sends; after a pause a second's worth may pass beside the burst. */
  readonly txLimit?: RateLimit | null;
}

/** What an interface is known by on the network for as long as its VM holds it. */
export type Lease = Pick<VmNetwork, 'tap' | 'mac' | 'ipv4' | 'ipv6'>;

/** As the guest sees it: received is what came to it. */
export interface Traffic {
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly txPackets: number;
}

export interface AddressPool {
  /**
   * Lazily yields candidate addresses in order, lowest first, without the gateway, network and broadcast addresses.
   *
   * @param from leaves out those below this address, given as a number
   */
  candidates(from?: number): Iterable<string>;
  /** How many there are. */
  readonly size: number;
}

export interface NetworkPlan {
  readonly kind: 'bridge' | 'user';
  readonly prefix4: number;
  readonly gateway4: string | null;
  readonly prefix6: number | null;
  readonly gateway6: string | null;
  /** What guests are told to use as resolver. */
  readonly nameservers: readonly string[];
  readonly ipv4Pool: AddressPool;
  /** The IPv6 address that goes with an IPv4 lease, null when IPv6 is off. */
  ipv6For(ipv4: string): string | null;
  /** The MAC that goes with an IPv4 lease: locally administered, unicast. */
  macFor(ipv4: string): string;
  /** The tap name that goes with an IPv4 lease; different for daemons with different bridges. */
  tapFor(ipv4: string): string;
  /** Whether a guest of this network may have the address, free or not. */
  contains(address: string): boolean;
  /** False for a lease of another network: one given out before the network's addresses were changed. */
  holds(lease: Lease): boolean;
}

export interface Network {
  readonly plan: NetworkPlan;

  /**
   * Makes the host ready and replaces whatever rules of ours are there by exactly those of `vms`, atomically: bridge and
   * addresses, forwarding, the nftables table, the resolver. Removes taps of ours that no VM in `vms` owns.
   * Safe to call at any time; running VMs keep their connections. A VM whose lease the plan does not hold is cut off, with
   * a warning: it gets no rules, and its tap is taken from the bridge until it is detached.
   */
  reconcile(vms: readonly VmNetwork[]): Promise<void>;

  /**
   * Rules first, then the tap: there is no moment at which the VM could send unfiltered. Idempotent.
   *
   * @throws BerthError `conflict` for a lease the plan does not hold
   */
  attach(vm: VmNetwork): Promise<void>;
  /** Removes tap and rules, whatever network the lease is of. Idempotent. */
  detach(vm: VmNetwork): Promise<void>;
  /** True when tap and rules of the VM are in place; where the plan does not hold its lease, while its tap is there. */
  attached(vm: VmNetwork): Promise<boolean>;

  /**
   * Looks whether what was attached is still there, `vms` being all of it, and puts back what somebody else changed. Ids of
   * the VMs whose tap is gone are returned: a running process cannot be given another.
   */
  verify(vms: readonly VmNetwork[]): Promise<readonly string[]>;

  nic(vm: VmNetwork): EngineNic;

  /** What went through the taps, by their names, since they were made; those that are not there are left out. */
  traffic(taps: readonly string[]): Promise<ReadonlyMap<string, Traffic>>;

  /**
   * Calls back when the next packet is handed to one of these taps, where it waits until the VM reads it; once for each tap
   * at most. Resolves once no packet can be missed, with a function that takes the wish back. In user mode, where nobody
   * can reach a VM, there is never a packet.
   *
   * @throws BerthError `network_failed` when packets cannot be watched for
   */
  onNextPacket(taps: readonly string[], callback: () => void): Promise<() => void>;

  /** What the host offers and lacks, for `berth doctor`: one line each. */
  diagnose(): Promise<
    readonly { readonly check: string; readonly ok: boolean; readonly detail: string; readonly advice: string }[]
  >;

  /** Lets go of the resolver process; bridge, taps and rules stay for running VMs. */
  close(): Promise<void>;

  /** Removes bridge, taps, rules and resolver, and turns off what this network turned on: the host as it was. */
  teardown(): Promise<void>;
}
