/** Reads files out of an ext4 image without mounting it. */

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { BerthError } from '../common/errors.ts';
import { exists } from '../common/files.ts';
import { runBounded } from './run-bounded.ts';

/**
 * Content of a regular file in an ext4 image, or null when there is none. `path` is absolute and free of spaces and
 * quotes, which debugfs would take for its own. Throws `image_invalid` for more than `maxBytes`: holes cost an image
 * nothing, so what is in it says nothing of how much there is to read.
 */
export async function debugfsRead(image: string, path: string, maxBytes: number): Promise<Buffer | null> {
  if (!/^\/[\w./+-]+$/.test(path)) throw new Error(`unsafe path ${path}`);
  const directory = await mkdtemp(join(tmpdir(), 'berth-debugfs-'));
  try {
    // debugfs exits 0 whether or not the file exists: what it wrote tells.
    const copy = join(directory, 'file');
    const isRead = await runBounded('debugfs', ['-R', `dump ${path} ${copy}`, image], maxBytes);
    if (!isRead) throw new BerthError('image_invalid', { reason: `${path} is too large` });
    return (await exists(copy)) ? await readFile(copy) : null;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
