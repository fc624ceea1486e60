/** The cache of built images: `<cache>/images/<hash>/{vmlinux,rootfs.ext4,image.json}`, complete or absent. */

import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';

const cachedFile = z.strictObject({ sha256: z.string().regex(/^[0-9a-f]{64}$/), bytes: z.int().positive() });

const manifestSchema = z.strictObject({
  format: z.literal(1),
  name: z.string(),
  description: z.string(),
  recipe: z.string(),
  kernelRelease: z.string(),
  kernel: cachedFile,
  rootfs: cachedFile,
  programs: z.record(z.string(), z.string()),
  /** Debian packages in the root file system and their versions. */
  packages: z.record(z.string(), z.string()),
});

export type CachedManifest = z.infer<typeof manifestSchema>;

export interface CachedImage {
  /** Absolute paths. */
  readonly kernel: string;
  readonly rootfs: string;
  readonly manifest: CachedManifest;
}

/** BERTH_CACHE, else /var/cache/berth for root and the user's cache directory for others. */
export function defaultCacheDir(env: NodeJS.ProcessEnv = process.env): string {
  if (env.BERTH_CACHE) return env.BERTH_CACHE;
  if (process.getuid?.() === 0) return '/var/cache/berth';
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'berth');
}

/** Where an image of that hash is, or would be. */
export function cachedImageDir(cacheDir: string, hash: string): string {
  return join(cacheDir, 'images', hash);
}

/** The image in a cache directory, null when there is none. The manifest is read, the files are not. */
export async function readCachedImage(dir: string): Promise<CachedImage | null> {
  let text: string;
  try {
    text = await readFile(join(dir, 'image.json'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  const manifest = manifestSchema.parse(JSON.parse(text));
  return { kernel: join(dir, 'vmlinux'), rootfs: join(dir, 'rootfs.ext4'), manifest };
}
