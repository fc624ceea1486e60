/** Reads files out of an ext4 image without mounting it. */

import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { runCommand } from '../common/command.ts';
import { exists } from '../common/files.ts';

/** Enough for any kernel module or list of modules. */
const MAX_BYTES = 64 * 1024 * 1024;

/**
 * Content of a regular file in an ext4 image, or null when there is none. `path` is absolute and free of spaces and
 * quotes, which debugfs would take for its own.
 */
export async function debugfsRead(image: string, path: string): Promise<Buffer | null> {
  if (!/^\/[\w./+-]+$/.test(path)) throw new Error(`unsafe path ${path}`);
  const directory = await mkdtemp(join(tmpdir(), 'berth-debugfs-'));
  try {
    // debugfs exits 0 whether or not the file exists: what it wrote tells.
    const copy = join(directory, 'file');
    await runCommand('debugfs', ['-R', `dump ${path} ${copy}`, image]);
    if (!(await exists(copy))) return null;
    const { size } = await stat(copy);
    if (size > MAX_BYTES) throw new Error(`${path} in ${image} is too large`);
    return await readFile(copy);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
