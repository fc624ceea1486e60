import { isIPv4 } from 'node:net';
import { BerthError } from '../../common/errors.ts';
import type { IpFamilies, RateLimit } from '../../vm/model.ts';
import type { CreateNic, StaticAddress } from '../../vm/request.ts';
import {
  type IPv4Config,
  type LinkAddress,
  type NetworkInterface,
  NetworkMode,
  type RateLimit as WireRateLimit,
} from './gen/vmprovisioner/v1/vm_pb.js';

const nicTypes = new Set(['', 'tap', 'virtio', 'virtio-net']);

const families: Readonly<Record<NetworkMode, IpFamilies | null>> = {
  [NetworkMode.UNSPECIFIED]: null,
  [NetworkMode.DUAL_STACK]: 'dual',
  [NetworkMode.IPV4_ONLY]: 'ipv4',
  [NetworkMode.IPV6_ONLY]: 'ipv6',
};

/** A network interface as the VM service takes it, from one whose names are unified. Throws `invalid_argument`. */
export function decodeNic(nic: NetworkInterface, index: number): CreateNic {
  const where = `network interface ${index}`;
  if (!nicTypes.has(nic.type.toLowerCase())) throw invalid(where, 'type must be TAP or virtio-net');
  const family = families[nic.mode];
  if (family === undefined) throw invalid(where, 'mode is unknown');
  const ipv4 = decodeIpv4(nic, where);
  const ipv6 = decodeIpv6(nic, where);
  const nameservers = [...(nic.ipv4Config?.dnsServers ?? []), ...(nic.ipv6Config?.dnsServers ?? [])];
  const rxLimit = decodeLimit(nic.rxRateLimit, where);
  const txLimit = decodeLimit(nic.txRateLimit, where);
  return {
    name: nic.id || `eth${index}`,
    ...(nic.macAddress === '' || nic.macAddress === 'auto' ? {} : { mac: nic.macAddress }),
    ...(family === null ? {} : { families: family }),
    ...(ipv4 === null ? {} : { ipv4 }),
    ...(ipv6 === null ? {} : { ipv6 }),
    ...(nameservers.length === 0 ? {} : { nameservers }),
    ...(rxLimit === null ? {} : { rxLimit }),
    ...(txLimit === null ? {} : { txLimit }),
  };
}

function decodeIpv4(nic: NetworkInterface, where: string): StaticAddress | null {
  const { ipv4Config: config } = nic;
  if (!config?.address) return fromLink(nic.guestIpv4, nic.hostIpv4, where);
  if (nic.guestIpv4) throw invalid(where, 'ipv4_config and guest_ipv4 must not both be given');
  if (config.dhcp) throw invalid(where, 'an address cannot be given with dhcp');
  const prefix = netmaskPrefix(config, where);
  return fixed(config.address, prefix, config.gateway);
}

function decodeIpv6(nic: NetworkInterface, where: string): StaticAddress | null {
  const { ipv6Config: config } = nic;
  if (config?.slaac && config.address !== '') throw invalid(where, 'an address cannot be given with slaac');
  if (!config?.address) return fromLink(nic.guestIpv6, nic.hostIpv6, where);
  if (nic.guestIpv6) throw invalid(where, 'ipv6_config and guest_ipv6 must not both be given');
  return fixed(config.address, config.prefixLength, config.gateway);
}

/** The reference's form: the guest's address, and the host's on the same link, which is the guest's gateway. */
function fromLink(guest: LinkAddress | undefined, host: LinkAddress | undefined, where: string): StaticAddress | null {
  if (!guest?.address) {
    if (host?.address) throw invalid(where, 'the address of the host needs one of the guest');
    return null;
  }
  return fixed(guest.address, guest.prefixLength || host?.prefixLength || 0, guest.gateway || host?.address || '');
}

function fixed(address: string, prefix: number, gateway: string): StaticAddress {
  return { address, ...(prefix === 0 ? {} : { prefix }), ...(gateway === '' ? {} : { gateway }) };
}

/** `255.255.255.0` → 24; 0 when there is none. */
function netmaskPrefix({ netmask }: IPv4Config, where: string): number {
  if (netmask === '') return 0;
  if (/^\/?\d{1,2}$/.test(netmask)) return Number(netmask.replace('/', ''));
  if (!isIPv4(netmask)) throw invalid(where, 'netmask must be an IPv4 netmask');
  const bits = netmask
    .split('.')
    .map((part) => Number(part).toString(2).padStart(8, '0'))
    .join('');
  if (!/^1+0*$/.test(bits)) throw invalid(where, 'netmask must be an IPv4 netmask');
  return bits.indexOf('0') === -1 ? bits.length : bits.indexOf('0');
}

/** A limit without a bandwidth is none. What may come at once is what a refill brings, unless a burst is given. */
function decodeLimit(limit: WireRateLimit | undefined, where: string): RateLimit | null {
  if (!limit) return null;
  const [bytesPerSecond, burst, refillMs] = [limit.bandwidth, limit.burst, limit.refillTime].map(Number) as [
    number,
    number,
    number,
  ];
  if (bytesPerSecond < 0 || burst < 0 || refillMs < 0) throw invalid(where, 'rate limits must not be negative');
  if (![bytesPerSecond, burst, refillMs].every(Number.isSafeInteger)) throw invalid(where, 'rate limit too large');
  if (bytesPerSecond === 0) return null;
  return { bytesPerSecond, burstBytes: burst || Math.ceil((bytesPerSecond * refillMs) / 1000) };
}

function invalid(where: string, reason: string): BerthError {
  return new BerthError('invalid_argument', { reason: `${where}: ${reason}` });
}
