import { afterEach, beforeEach } from 'node:test';
import type { VmSettings } from '../context.ts';
import type { Quotas } from '../quotas.ts';
import { Vms } from '../service.ts';
import { FakeHost } from './fake-host.ts';

/** In place of what a {@link FakeHost} says by itself. */
export interface DaemonOptions {
  readonly quotas?: Partial<Quotas>;
  readonly settings?: Partial<VmSettings>;
}

/**
 * Gives each test of a suite a host of its own with a daemon's VM service on it, and takes both away after it.
 * @param use is handed them before each test, and the service of each daemon that comes after
 * @param options of every daemon, where none are given for it
 * @returns what ends the daemon that runs and opens another one on the same host
 */
export function daemonPerTest(
  use: (daemon: { readonly host: FakeHost; readonly vms: Vms }) => void,
  options: () => DaemonOptions = () => ({}),
): (options?: DaemonOptions) => Promise<void> {
  let host: FakeHost;
  let vms: Vms;
  const open = async ({ quotas, settings }: DaemonOptions) => {
    vms = await Vms.open(host.dependencies(quotas, settings));
    use({ host, vms });
  };
  beforeEach(async () => {
    host = await FakeHost.create();
    await open(options());
  });
  afterEach(async () => {
    await vms.close();
    await host.remove();
  });
  return async (next = options()) => {
    await vms.close();
    await open(next);
  };
}
