import { BerthError } from '../common/errors.ts';
import { canonicalAddress, parseAddress } from '../net/cidr.ts';
import type { NetworkPlan } from '../net/network.ts';
import { checkRateLimit } from '../net/rate-limit.ts';
import { ipv4Number, type Ledger, partsOf } from './ledger.ts';
import type { RateLimit, Vm, VmAddresses, VmNic } from './model.ts';
import type { CreateNic, StaticAddress } from './request.ts';

/** How many uids a daemon hands out, from its base on. */
export const uidCount = 10_000;

/**
 * What is held beside a ledger's: by interfaces of the VM itself. Each part by itself, since leases from before a change of
 * the network pair addresses with other taps.
 */
class Held {
  readonly #ledger: Ledger;
  /** Held by the VM itself, as the ledger has it: free for it. */
  readonly #own: ReadonlySet<string>;
  readonly #more = new Set<string>();

  constructor(ledger: Ledger, own: readonly VmNic[] = []) {
    this.#ledger = ledger;
    this.#own = new Set(own.flatMap(({ addresses }) => partsOf(addresses)));
  }

  has(part: string): boolean {
    return this.#more.has(part) || (this.#ledger.holds(part) && !this.#own.has(part));
  }

  add(addresses: VmAddresses): void {
    for (const part of partsOf(addresses)) this.#more.add(part);
  }

  /** The lowest lease of which nothing is held. Throws `quota_exceeded` when there is none. */
  lowest(plan: NetworkPlan): VmAddresses {
    const from = this.#ledger.lowestAddress;
    const lease = this.#firstFree(plan, from) ?? (from > 0 ? this.#firstFree(plan, 0) : null);
    if (lease !== null) return lease;
    throw new BerthError('quota_exceeded', { resource: 'Address', limit: `${plan.ipv4Pool.size}`, setting: 'network' });
  }

  #firstFree(plan: NetworkPlan, from: number): VmAddresses | null {
    for (const ipv4 of plan.ipv4Pool.candidates(from)) {
      if (this.has(ipv4)) continue;
      const lease = leaseFor(ipv4, plan);
      if (partsOf(lease).some((part) => this.has(part))) continue;
      // What this VM holds is not in the ledger yet, and may never be.
      if (this.#more.size === 0 && this.#own.size === 0) this.#ledger.searchedUpTo(ipv4Number(ipv4));
      return lease;
    }
    return null;
  }
}

/**
 * Interfaces with leases that no VM holds: the addresses asked for, else the lowest, so that released ones are used again.
 * The store's UNIQUE columns have the last word. Throws `quota_exceeded` when the network is full, `conflict` when what is
 * asked for is held, `invalid_argument` when it cannot be had in this network.
 */
export function allocateNics(requests: readonly CreateNic[], ledger: Ledger, plan: NetworkPlan): readonly VmNic[] {
  const held = new Held(ledger);
  // Whoever asks for an address is served before others are given the lowest.
  const wanted = [...requests.entries()].sort(([, a], [, b]) => Number(isPlain(a)) - Number(isPlain(b)));
  const nics = new Map<number, VmNic>();
  for (const [position, request] of wanted) {
    const addresses = isPlain(request) ? held.lowest(plan) : chosen(request, held, plan);
    held.add(addresses);
    nics.set(position, nicOf(request, addresses, plan));
  }
  return requests.map((_, position) => nics.get(position)!);
}

/** The VM with its own addresses, or new ones where the network was changed since and does not hold them. */
export function withCurrentLeases(vm: Vm, ledger: Ledger, plan: NetworkPlan): Vm {
  const isCurrent = (nic: VmNic) => plan.holds(nic.addresses);
  if (vm.nics.every(isCurrent)) return vm;
  const held = new Held(ledger, vm.nics);
  for (const nic of vm.nics.filter(isCurrent)) held.add(nic.addresses);
  const nics = vm.nics.map((nic) => {
    if (isCurrent(nic)) return nic;
    const addresses = held.lowest(plan);
    held.add(addresses);
    return { ...nic, addresses };
  });
  return { ...vm, nics, addresses: nics[0]!.addresses };
}

/** The lowest free uid from `base` on; null when processes run under the daemon's own uid. */
export function allocateUid(ledger: Ledger, base: number | null): number | null {
  if (base === null) return null;
  const uid = ledger.freeUid(base, uidCount);
  if (uid !== null) return uid;
  throw new BerthError('quota_exceeded', { resource: 'User id', limit: `${uidCount}`, setting: 'uids' });
}

function isPlain({ mac, ipv4, ipv6 }: CreateNic): boolean {
  return mac === undefined && ipv4 === undefined && ipv6 === undefined;
}

/** The kernel takes it for no address, and makes one up. */
const nobodysMac = '00:00:00:00:00:00';

function leaseFor(ipv4: string, plan: NetworkPlan): VmAddresses {
  return { ipv4, ipv6: plan.ipv6For(ipv4), mac: plan.macFor(ipv4), tap: plan.tapFor(ipv4) };
}

function chosen(request: CreateNic, held: Held, plan: NetworkPlan): VmAddresses {
  const mac = request.mac?.toLowerCase();
  const ipv4 = request.ipv4 && checkStatic(request, request.ipv4, 4, plan);
  const ipv6 = request.ipv6 && checkStatic(request, request.ipv6, 6, plan);
  const base = ipv4 === undefined ? held.lowest(plan) : leaseFor(ipv4, plan);
  const lease = { ...base, ...(mac === undefined ? {} : { mac }), ...(ipv6 === undefined ? {} : { ipv6 }) };
  if (mac === nobodysMac || !plan.holds(lease)) throw invalid(request, 'the MAC is not one that a guest may have');
  const taken = partsOf(lease).find((part) => held.has(part));
  if (taken !== undefined)
    throw new BerthError('conflict', { reason: `network ${request.name}: ${taken} is held by another interface` });
  return lease;
}

/** The address as everybody writes it. Throws `invalid_argument` when it is not one of this network. */
function checkStatic(request: CreateNic, wanted: StaticAddress, family: 4 | 6, plan: NetworkPlan): string {
  const [prefix, gateway] = family === 4 ? [plan.prefix4, plan.gateway4] : [plan.prefix6, plan.gateway6];
  if (prefix === null) throw invalid(request, `this host has no IPv${family} network`);
  const address = read(request, wanted.address, family);
  if (wanted.prefix !== undefined && wanted.prefix !== prefix)
    throw invalid(request, `the prefix of this host's IPv${family} network is ${prefix}`);
  if (wanted.gateway !== undefined && read(request, wanted.gateway, family) !== gateway)
    throw invalid(request, `the gateway of this host's IPv${family} network is ${gateway}`);
  if (address === gateway || !plan.contains(address))
    throw invalid(request, `${address} is not an address for guests in this host's IPv${family} network`);
  return address;
}

function read(request: CreateNic, text: string, family: 4 | 6): string {
  try {
    if (parseAddress(text).family === family) return canonicalAddress(text);
  } catch (error) {
    if (!(error instanceof BerthError)) throw error;
  }
  throw invalid(request, `an IPv${family} address is expected`);
}

function nicOf(request: CreateNic, addresses: VmAddresses, plan: NetworkPlan): VmNic {
  const families = request.families ?? 'dual';
  if (families === 'ipv6' && addresses.ipv6 === null) throw invalid(request, 'this host has no IPv6 network');
  return {
    name: request.name,
    addresses,
    families,
    nameservers: request.nameservers?.map((address) => canonicalAddress(address)) ?? null,
    rxLimit: limitOf(request.rxLimit, plan),
    txLimit: limitOf(request.txLimit, plan),
  };
}

function limitOf(limit: RateLimit | undefined, plan: NetworkPlan): RateLimit | null {
  if (limit === undefined) return null;
  if (plan.kind === 'user') throw new BerthError('unsupported', { feature: 'A rate limit (it needs root)' });
  return checkRateLimit(limit);
}

function invalid(request: CreateNic, reason: string): BerthError {
  return new BerthError('invalid_argument', { reason: `network ${request.name}: ${reason}` });
}
