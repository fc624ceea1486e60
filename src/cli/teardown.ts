import { join } from 'node:path';
import { pino } from 'pino';
import { exists } from '../common/files.ts';
import { ConfigError } from '../daemon/config.ts';
import { lockBridge, openNetwork } from '../daemon/network.ts';
import type { Config } from '../daemon/settings.ts';
import { ProcessTable } from '../engine/qemu/qemu-process.ts';
import { lockHome } from '../store/lock.ts';

/**
 * Removes what a data directory's daemon leaves on the host for VMs that run on: bridge, rules, resolver, and the kernel's
 * forwarding where the daemon turned it on. The data directory stays. Refuses while a daemon or a VM of it runs.
 */
export async function teardown(config: Config): Promise<void> {
  const { home } = config;
  if (!(await exists(home))) throw new ConfigError(`there is no data directory ${home}`);
  await using stack = new AsyncDisposableStack();
  const lock = lockHome(home);
  stack.defer(() => lock.release());
  const root = `${join(home, 'vms')}/`;
  const running = (await new ProcessTable().list()).filter(({ dir }) => dir.startsWith(root));
  if (running.length > 0)
    throw new ConfigError(
      `${running.length} VMs of ${home} run: stop them, or start the daemon with --stop-vms and end it`,
    );
  const network = await openNetwork(config, pino({ level: 'silent' }));
  if (network.plan.kind === 'bridge') {
    const bridge = await lockBridge(config['network.bridge']);
    stack.defer(() => bridge.release());
  }
  await network.teardown();
  console.log(`nothing of ${home} is left on the network of this host`);
}
