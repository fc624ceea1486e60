/**
 * An image's files on the disk. New files are put in place in three moves: under a name that tells their content, then
 * the manifest that speaks of them (from there on the change has happened), then under their own name. `recover` finishes
 * or undoes what was cut off between them.
 */

import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { syncPath } from '../common/files.ts';
import type { ImagePart } from './accept.ts';
import { type ImageManifest, type ImageRecord, writeImageManifest } from './records.ts';
import { isTemporary } from './temporary.ts';

export const partNames: Readonly<Record<ImagePart, string>> = { kernel: 'vmlinux', rootfs: 'rootfs.ext4' };
export const imageParts: readonly ImagePart[] = ['kernel', 'rootfs'];

/** Puts the files at `staged`, which are in `dir` and durable, in the place of those that `record` now describes. */
export async function publishParts(
  dir: string,
  record: ImageRecord,
  staged: ReadonlyMap<ImagePart, string>,
): Promise<void> {
  for (const [part, path] of staged) await rename(path, readyPath(dir, part, record[part]!.sha256));
  await writeImageManifest(dir, record);
  for (const part of staged.keys()) await place(dir, part, record[part]!.sha256);
  await syncPath(dir);
}

/** Makes the directory agree with its manifest, and removes what uploads left. */
export async function recoverDirectory(dir: string, manifest: ImageManifest): Promise<void> {
  for (const name of await readdir(dir)) {
    const part = imageParts.find((each) => manifest[each] && name === readyName(each, manifest[each].sha256));
    if (part !== undefined) await place(dir, part, manifest[part]!.sha256);
    else if (isTemporary(name) || name.endsWith('.ready')) await rm(join(dir, name));
  }
  await syncPath(dir);
}

/** Parts whose file is there with the size the manifest gives. */
export async function presentParts(dir: string, manifest: ImageManifest): Promise<ReadonlySet<ImagePart>> {
  const present = new Set<ImagePart>();
  for (const part of imageParts) {
    const file = await stat(join(dir, partNames[part])).catch(absent);
    if (file?.isFile() && file.size === manifest[part]?.bytes) present.add(part);
  }
  return present;
}

function absent(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}

async function place(dir: string, part: ImagePart, sha256: string): Promise<void> {
  const ready = readyPath(dir, part, sha256);
  await rename(ready, join(dir, partNames[part]));
  // Renaming one hard link onto another of the same file does nothing.
  await rm(ready, { force: true });
}

function readyPath(dir: string, part: ImagePart, sha256: string): string {
  return join(dir, readyName(part, sha256));
}

function readyName(part: ImagePart, sha256: string): string {
  return `${partNames[part]}.${sha256}.ready`;
}
