import { type Cidr, formatAddress } from './cidr.ts';
import type { AddressPool } from './network.ts';

/**
 * The usable IPv4 addresses of a network, lowest first: without its network and broadcast addresses and those in
 * `reserved`. Nothing is held in memory, so that a /8 costs as much as a /24.
 *
 * @param reserved Addresses that are never given out, the gateway's among them.
 */
export function createAddressPool(network: Cidr, reserved: readonly bigint[]): AddressPool {
  const first = network.address + 1n;
  const last = network.address + (1n << BigInt(32 - network.prefix)) - 2n;
  const taken = new Set(reserved.filter((address) => address >= first && address <= last));
  return {
    size: Number(last - first + 1n) - taken.size,
    *candidates(from = 0) {
      const begin = BigInt(from);
      for (let address = begin > first ? begin : first; address <= last; address++) {
        if (!taken.has(address)) yield formatAddress(4, address);
      }
    },
  };
}
