/** Compiles guest-init for this host's architecture, once for each state of its sources. */

import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { runCommand } from '../common/command.ts';
import { exists } from '../common/files.ts';

const sourceRoot = join(import.meta.dirname, '../../guest-init');

export interface GuestInit {
  readonly path: string;
  /** Lower-case hex, of the file at `path`. */
  readonly sha256: string;
}

async function hashSources(): Promise<string> {
  const hash = createHash('sha256');
  const names = (await readdir(join(sourceRoot, 'src'))).filter((name) => /\.[ch]$/.test(name)).sort();
  for (const path of ['Makefile', ...names.map((name) => `src/${name}`)]) {
    const content = await readFile(join(sourceRoot, path));
    hash.update(`${path}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex').slice(0, 32);
}

/**
 * Path of a guest-init built from the current sources, from `cacheDir` when it is there. Needs gcc, make and
 * libnghttp2-dev otherwise. Concurrent builders do not disturb each other: the first to finish wins.
 */
export async function ensureGuestInit(cacheDir: string): Promise<GuestInit> {
  const directory = join(cacheDir, 'guest-init', await hashSources());
  const path = join(directory, 'guest-init');
  if (!(await exists(path))) {
    await mkdir(directory, { recursive: true });
    const work = join(directory, `build-${randomBytes(6).toString('hex')}`);
    try {
      await runCommand('make', ['--silent', '-j2', '-C', sourceRoot, `OUT=${work}`], { timeoutMs: 300_000 });
      await rename(join(work, 'guest-init'), path);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  const sha256 = createHash('sha256')
    .update(await readFile(path))
    .digest('hex');
  return { path, sha256 };
}
