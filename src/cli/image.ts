import { ConfigError } from '../daemon/config.ts';
import type { Config } from '../daemon/settings.ts';
import { buildImage } from '../image/build.ts';
import { callDaemon } from './daemon-client.ts';

/** Builds a recipe's image into the cache, showing what it is at. */
export async function buildImageCommand(name: string, config: Config): Promise<void> {
  let shown = '';
  const image = await buildImage(name, {
    cacheDir: config.cache,
    onProgress: ({ phase, detail, elapsedMs }) => {
      if (phase === shown) return;
      shown = phase;
      console.log(`${(elapsedMs / 1000).toFixed(0).padStart(4)} s  ${phase}: ${detail}`);
    },
  });
  console.log(`${name}: kernel ${image.manifest.kernelRelease}`);
  console.log(`  ${image.kernel}\n  ${image.rootfs}`);
}

/** Has the daemon make a template, and waits until it is there. */
export async function warmImage(
  config: Config,
  name: string | null,
  { cpus, memory }: { readonly cpus: number; readonly memory: number },
): Promise<void> {
  const images = (await callDaemon(config, 'GET', '/v1/images')) as readonly ListedImage[];
  const image = images.find(({ id, name: own, isDefault }) =>
    name === null ? isDefault : id === name || own === name,
  );
  if (!image) throw new ConfigError(name === null ? 'there is no default image' : `there is no image ${name}`);
  await callDaemon(config, 'POST', `/v1/images/${image.id}/warm`, { cpu: cpus, memMb: memory });
  console.log(`VMs of ${image.name} with ${cpus} cpu and ${memory} MiB are cloned from a template now`);
}

interface ListedImage {
  readonly id: string;
  readonly name: string;
  readonly isDefault?: boolean;
}
