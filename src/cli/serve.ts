import { flushCompileCache } from 'node:module';
import { printConfig } from '../daemon/config.ts';
import { startDaemon } from '../daemon/daemon.ts';
import type { Config } from '../daemon/settings.ts';

/** Runs the daemon until SIGTERM or SIGINT. VMs stay up unless `stopVms`. */
export async function serve(
  config: Config,
  options: { readonly printConfig: boolean; readonly stopVms: boolean },
): Promise<void> {
  if (options.printConfig) {
    process.stdout.write(printConfig(config));
    return;
  }
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  const daemon = await startDaemon(config, {
    announce: (line) => console.log(line),
    beforeReady() {
      // Kept now, not at the exit: a daemon that is killed would leave nothing for the next one.
      flushCompileCache();
      process.once('SIGTERM', resolve);
      process.once('SIGINT', resolve);
    },
  });
  const signal = await promise;
  console.log(`${signal}: stopping${options.stopVms ? ', VMs too' : '; VMs keep running'}`);
  await daemon.stop({ stopVms: options.stopVms });
}
