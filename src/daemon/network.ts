import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../common/log.ts';
import { createBridgeNetwork } from '../net/bridge-network.ts';
import type { Network } from '../net/network.ts';
import { createUserNetwork } from '../net/user-network.ts';
import { ConfigError } from './config.ts';
import type { Config } from './settings.ts';

/** The network as configured: a bridge for root, user mode for everybody else, unless one of them is asked for. */
export async function openNetwork(config: Config, log: Log): Promise<Network> {
  const isRoot = process.getuid?.() === 0;
  const mode = config['network.mode'] === 'auto' ? (isRoot ? 'bridge' : 'user') : config['network.mode'];
  if (mode === 'user') return createUserNetwork();
  if (!isRoot) throw new ConfigError('network.mode = "bridge" needs root');
  const stateDir = join(config.home, 'state', 'network');
  await mkdir(stateDir, { recursive: true, mode: 0o711 });
  const upstream = config['network.upstream'];
  return createBridgeNetwork({
    bridge: config['network.bridge'],
    address4: config['network.address'],
    address6: config['network.address6'] || null,
    resolver: config['network.resolver'] ? { upstream: upstream.length === 0 ? null : upstream } : false,
    stateDir,
    log: log.child({ room: 'network' }),
  });
}
