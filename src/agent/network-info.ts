import { readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import type { NetworkInformation } from './protocol/guest-api.ts';

/** Interfaces that are told of: the app's tunnel and network cards, no bridges of containers. */
const shown = /^(?:dstack-wg0|enp.*|eth.*)$/;

/** The VM's network as the host sees it. */
export async function networkInfo(): Promise<NetworkInformation> {
  const interfaces = Object.entries(networkInterfaces()).filter(([name]) => shown.test(name));
  const [resolvers, routes, tunnel] = await Promise.all([
    readFile('/etc/resolv.conf', 'utf8').catch(() => ''),
    readFile('/proc/net/route', 'utf8').catch(() => ''),
    wireguard(),
  ]);
  return {
    dns_servers: [...resolvers.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, address]) => address!),
    gateways: parseGateways(routes).map((address) => ({ address })),
    interfaces: await Promise.all(
      interfaces.map(async ([name, addresses = []]) => ({
        name,
        addresses: addresses.map(({ address, cidr }) => ({ address, prefix: Number(cidr?.split('/')[1] ?? 0) })),
        rx_bytes: await counter(name, 'rx_bytes'),
        tx_bytes: await counter(name, 'tx_bytes'),
        rx_errors: await counter(name, 'rx_errors'),
        tx_errors: await counter(name, 'tx_errors'),
      })),
    ),
    wg_info: tunnel,
  };
}

/** The gateways of default routes in the text of /proc/net/route, where addresses are in the processor's byte order. */
export function parseGateways(routes: string): string[] {
  const gateways = routes
    .split('\n')
    .slice(1)
    .map((line) => line.split('\t'))
    .filter(([, destination, gateway]) => destination === '00000000' && /^[0-9A-F]{8}$/.test(gateway ?? ''))
    .map(([, , gateway]) => Buffer.from(gateway!, 'hex').reverse().join('.'));
  return [...new Set(gateways)].filter((address) => address !== '0.0.0.0');
}

async function counter(name: string, what: string): Promise<bigint> {
  const text = await readFile(`/sys/class/net/${name}/statistics/${what}`, 'utf8').catch(() => '0');
  return BigInt(text.trim());
}

async function wireguard(): Promise<string> {
  // Starting programs is a module of its own, which nothing else here needs.
  const { CommandError, runCommand } = await import('../common/command.ts');
  try {
    return (await runCommand('wg', [], { timeoutMs: 5000, maxOutputBytes: 64 * 1024 })).stdout;
  } catch (error) {
    // The host shows this text where the tunnel's would be.
    return error instanceof CommandError ? 'wg is not available' : Promise.reject(error);
  }
}
