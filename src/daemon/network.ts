import { mkdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../common/log.ts';
import { createBridgeNetwork } from '../net/bridge-network.ts';
import type { Network } from '../net/network.ts';
import { createUserNetwork } from '../net/user-network.ts';
import { type FileLock, lockFile } from '../store/lock.ts';
import { ConfigError } from './config.ts';
import type { Config } from './settings.ts';

/**
 * Two daemons on one bridge would each remove the other's taps and rules. The lock is per network namespace, since bridges
 * are; it goes with the process that has it.
 */
export async function lockBridge(bridge: string): Promise<FileLock> {
  const locks = '/run/berth';
  await mkdir(locks, { recursive: true, mode: 0o700 });
  const namespace = (await readlink('/proc/self/ns/net')).replaceAll(/\D/g, '');
  return lockFile(
    join(locks, `bridge-${namespace}-${bridge}.db`),
    `another daemon uses the bridge ${bridge}: stop it, or set network.bridge and network.address`,
  );
}

/** The network as configured: a bridge for root, user mode for everybody else, unless one of them is asked for. */
export async function openNetwork(config: Config, log: Log): Promise<Network> {
  const isRoot = process.getuid?.() === 0;
  const mode = config['network.mode'] === 'auto' ? (isRoot ? 'bridge' : 'user') : config['network.mode'];
  if (mode === 'user') return createUserNetwork({ allowUnfiltered: config['network.unfiltered'] });
  if (!isRoot) throw new ConfigError('network.mode = "bridge" needs root');
  const stateDir = join(config.home, 'state', 'network');
  await mkdir(stateDir, { recursive: true, mode: 0o711 });
  const upstream = config['network.upstream'];
  return createBridgeNetwork({
    bridge: config['network.bridge'],
    address4: config['network.address'],
    address6: config['network.address6'] || null,
    resolver: config['network.resolver'] ? { upstream: upstream.length === 0 ? null : upstream } : false,
    limits: {
      connections: config['network.connections_per_vm'],
      dnsPerSecond: config['network.dns_per_second_per_vm'],
    },
    stateDir,
    log: log.child({ room: 'network' }),
  });
}
