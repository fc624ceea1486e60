import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** A tree's entries with the root itself, each directory before what is in it, names in byte order. Follows no links. */
export async function* walk(root: string): AsyncGenerator<{ readonly path: string; readonly stat: Stats }> {
  const stat = await lstat(root);
  yield { path: root, stat };
  if (!stat.isDirectory()) return;
  for (const name of (await readdir(root)).sort()) yield* walk(join(root, name));
}
