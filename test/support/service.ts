import { mkdtemp, rm } from 'node:fs/promises';
import { pino } from 'pino';
import { loadConfig } from '../../src/daemon/config.ts';
import { type Host, openHost } from '../../src/daemon/host.ts';
import type { SettingKey } from '../../src/daemon/settings.ts';
import { assertPrivateNetwork } from './daemon.ts';

/** The engine room without a listener: the service and its images, in this process. `settings` are by their keys. */
export async function openTestHost(
  settings: Readonly<Partial<Record<SettingKey, unknown>>> = {},
): Promise<Host & { readonly home: string; dispose(): Promise<void> }> {
  await assertPrivateNetwork();
  const home = await mkdtemp('/tmp/berth-test-');
  const config = loadConfig({
    file: null,
    env: { ...(process.env.BERTH_CACHE ? { BERTH_CACHE: process.env.BERTH_CACHE } : {}) },
    // VMs that nobody asked for are for the tests that are about them.
    flags: { home, 'network.resolver': false, 'template.waiting': 0, ...settings },
  });
  const host = await openHost(config, () => {}, pino({ level: 'silent' }));
  return {
    ...host,
    home,
    async dispose() {
      await host.vms.stopAll();
      await host.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}
