import { BerthError } from '../common/errors.ts';
import { createAddressPool } from './address-pool.ts';
import { type Cidr, containsAddress, formatAddress, networkOf, parseAddress, readInterface } from './cidr.ts';
import type { NetworkPlan } from './network.ts';

/** The MACs of bridges begin like this. */
export const bridgeMacPrefix = '02:be:';

/** Linux' limit on interface names, without the terminating zero. */
const maxInterfaceName = 15;

export interface BridgePlanOptions {
  readonly bridge: string;
  /** The gateway's address with the network's prefix, e.g. `172.16.0.1/24`; prefixes /8 to /30. */
  readonly address4: string;
  /** Likewise for IPv6, e.g. `fd62:6572:7468::1/64`; null: guests get no IPv6. */
  readonly address6: string | null;
  /** Whether guests are told to use the gateway as resolver. */
  readonly resolver: boolean;
}

/** A bridge's addresses in every form the rules need. Texts are canonical. */
export interface BridgePlan extends NetworkPlan {
  readonly kind: 'bridge';
  readonly gateway4: string;
  /** The IPv4 network, e.g. `172.16.0.0/24`. */
  readonly network4: Cidr;
  readonly network6: Cidr | null;
  /** What every tap of the bridge, and no other interface, begins with. */
  readonly tapPrefix: string;
  isTap(name: string): boolean;
}

/** @throws BerthError `invalid_cidr` or `invalid_argument` when the settings cannot make a network. */
export function createBridgePlan(options: BridgePlanOptions): BridgePlan {
  const gateway4 = readInterface(options.address4);
  if (gateway4.family !== 4 || gateway4.prefix < 8 || gateway4.prefix > 30) {
    throw invalid('address4 must be an IPv4 address with a prefix from /8 to /30');
  }
  const network4 = asNetwork(gateway4);
  const hostBits = 32 - gateway4.prefix;
  if (!isHost(gateway4.address - network4.address, hostBits)) throw invalid('address4 must be a host address');

  const gateway6 = options.address6 === null ? null : readInterface(options.address6);
  const network6 = gateway6 && asNetwork(gateway6);
  if (gateway6 && network6) checkGateway6(gateway6, network6, gateway4.address - network4.address, hostBits);

  // The separator cannot be part of a bridge's name: no bridge's prefix is the beginning of another's tap.
  const tapPrefix = `${options.bridge}-`;
  const longest = maxInterfaceName - tapPrefix.length - Math.ceil(hostBits / 4);
  if (!/^[a-zA-Z][a-zA-Z0-9_]*$/.test(options.bridge) || longest < 0) {
    throw invalid(
      `bridge must be letters, digits and underscores, at most ${longest + options.bridge.length} with this prefix`,
    );
  }
  const tapPattern = new RegExp(`^${tapPrefix}[0-9a-f]{1,6}$`);

  // A lease asks for its IPv6 address, MAC and tap in a row.
  let last = { ipv4: '', host: 0n };
  const hostOf = (ipv4: string): bigint => {
    if (ipv4 !== last.ipv4) last = { ipv4, host: readHost(ipv4) };
    return last.host;
  };
  const readHost = (ipv4: string): bigint => {
    const { family, address } = parseAddress(ipv4);
    const host = address - network4.address;
    if (family !== 4 || !isHost(host, hostBits)) throw invalid(`${ipv4} is no host address of the network`);
    return host;
  };
  const isGuest4 = (ipv4: string): boolean =>
    isGuestAddress(network4, gateway4.address, ipv4) && isHost(parseAddress(ipv4).address - network4.address, hostBits);
  const isGuest6 = (ipv6: string): boolean =>
    gateway6 !== null &&
    network6 !== null &&
    isGuestAddress(network6, gateway6.address, ipv6) &&
    parseAddress(ipv6).address !== network6.address;
  const gateway6Text = gateway6 && formatAddress(6, gateway6.address);
  const gateway4Text = formatAddress(4, gateway4.address);
  return {
    kind: 'bridge',
    prefix4: gateway4.prefix,
    gateway4: gateway4Text,
    prefix6: gateway6?.prefix ?? null,
    gateway6: gateway6Text,
    nameservers: options.resolver ? [gateway4Text, ...(gateway6Text === null ? [] : [gateway6Text])] : [],
    ipv4Pool: createAddressPool(network4, [gateway4.address]),
    network4,
    network6,
    tapPrefix,
    contains: (address) => (address.includes(':') ? isGuest6(address) : isGuest4(address)),
    isTap: (name) => tapPattern.test(name),
    ipv6For: (ipv4) => network6 && formatAddress(6, network6.address + hostOf(ipv4)),
    macFor: (ipv4) => macOf(network4.address + hostOf(ipv4)),
    tapFor: (ipv4) => `${tapPrefix}${hostOf(ipv4).toString(16)}`,
    holds: ({ tap, mac, ipv4, ipv6 }) =>
      tapPattern.test(tap) && isGuestMac(mac) && isGuest4(ipv4) && (ipv6 === null || isGuest6(ipv6)),
  };
}

/** Unicast, and none that a bridge of ours could have. */
export function isGuestMac(mac: string): boolean {
  return /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(mac) && !mac.startsWith(bridgeMacPrefix);
}

/** 02:00 (unicast, locally administered) and the address's four bytes: unique wherever the address is. */
export function macOf(ipv4: bigint): string {
  const hex = (0x0200n << 32n) | ipv4;
  return (hex.toString(16).padStart(12, '0').match(/../g) ?? []).join(':');
}

/** The link-local address a guest makes of its MAC (RFC 4291, modified EUI-64). */
export function linkLocalOf(mac: string): string {
  const bits = BigInt(`0x${mac.replaceAll(':', '')}`);
  const identifier = ((bits >> 24n) << 40n) | (0xfffen << 24n) | (bits & 0xffffffn);
  return formatAddress(6, (0xfe80n << 112n) | (identifier ^ (1n << 57n)));
}

function asNetwork(own: Cidr): Cidr {
  return { ...own, address: networkOf(own.address, own.prefix, own.family) };
}

function isGuestAddress(network: Cidr, gateway: bigint, text: string): boolean {
  const { family, address } = parseAddress(text);
  return containsAddress(network, family, address) && address !== gateway;
}

/** Neither the network's own address (all zeros) nor broadcast (all ones). */
function isHost(host: bigint, hostBits: number): boolean {
  return host > 0n && host < (1n << BigInt(hostBits)) - 1n;
}

/** Guests take their IPv4 host number as IPv6 host number, so the gateway's must not be one of theirs. */
function checkGateway6(gateway6: Cidr, network6: Cidr, host4: bigint, hostBits: number): void {
  if (gateway6.family !== 6 || gateway6.prefix > 128 - hostBits) {
    throw invalid(`address6 must be an IPv6 address with a prefix of at most /${128 - hostBits}`);
  }
  const host6 = gateway6.address - network6.address;
  if (host6 !== host4 && isHost(host6, hostBits)) {
    throw invalid('address6 must end in the same host number as address4');
  }
  if (host6 === 0n) throw invalid('address6 must be a host address');
}

function invalid(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason });
}
