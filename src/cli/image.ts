import type { Config } from '../daemon/settings.ts';
import { buildImage } from '../image/build.ts';

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
