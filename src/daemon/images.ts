import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../common/log.ts';
import { buildImage } from '../image/build.ts';
import type { ImageRecord } from '../image/records.ts';
import { DirectoryImageStore } from '../image/store.ts';
import type { Database } from '../store/database.ts';
import { ImageRows } from '../store/image-rows.ts';
import { initrdMaker } from './initrd.ts';
import type { Config } from './settings.ts';

/** The image a new data directory begins with. */
const firstImage = 'sandbox';

export interface OpenImagesOptions {
  /** Whether a VM was made from the image. */
  readonly inUse: (id: string) => boolean;
  /** Told what takes long, for a person. */
  readonly announce: (line: string) => void;
  readonly log: Log;
}

/**
 * The images of the data directory. One that has none yet is given the sandbox image from the cache, which is built
 * first where the cache is empty.
 */
export async function openImages(
  config: Config,
  db: Database,
  options: OpenImagesOptions,
): Promise<DirectoryImageStore> {
  const root = join(config.home, 'images');
  await mkdir(root, { recursive: true, mode: 0o755 });
  const store = await DirectoryImageStore.open({
    root,
    records: new ImageRows<ImageRecord>(db),
    inUse: options.inUse,
    makeInitrd: initrdMaker(config.cache),
    log: options.log.child({ room: 'images' }),
    maxFileBytes: config['image.max_upload_mib'] * 1024 * 1024,
  });
  const [first, ...others] = store.list();
  // The start that was to bring it may have been cut off before it was whole, or the default.
  const mayBeBegun = others.length === 0 && first?.name === firstImage && store.default() === null;
  if (first !== undefined && !mayBeBegun) return store;
  let phase = '';
  const cached = await buildImage(firstImage, {
    cacheDir: config.cache,
    onProgress: (progress) => {
      if (progress.phase === phase) return;
      phase = progress.phase;
      options.announce(`building the ${firstImage} image: ${phase} (${Math.round(progress.elapsedMs / 1000)} s)`);
    },
  });
  const isAnother = (first?.rootfs ?? null) !== null && first?.rootfs?.sha256 !== cached.manifest.rootfs.sha256;
  if (!isAnother) await store.importCached(cached, { name: firstImage, default: true });
  return store;
}
