/** What images there are: the table and the directories, made to agree. */

import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { exists } from '../common/files.ts';
import type { Log } from '../common/log.ts';
import { describeFile, type ImagePart } from './accept.ts';
import { imageParts, partNames, presentParts, recoverDirectory } from './directory.ts';
import {
  type ImageManifest,
  type ImageRecord,
  type ImageRecords,
  isTemporaryManifest,
  readImageManifest,
  writeImageManifest,
} from './records.ts';

/** Begins the name of a directory whose image is being removed; the image's id follows. */
export const removingPrefix = '.removing-';

/**
 * Finishes removals and uploads that were cut off, corrects rows whose files say otherwise, and takes in directories that
 * were copied here. Returns the images in the order of their creation.
 */
export async function openImages(root: string, records: ImageRecords, log: Log): Promise<ImageRecord[]> {
  for (const name of await readdir(root)) {
    if (!name.startsWith(removingPrefix)) continue;
    await records.delete(name.slice(removingPrefix.length));
    await rm(join(root, name), { recursive: true });
  }
  const images: ImageRecord[] = [];
  for (const record of await records.list()) {
    const image = await openRecord(root, record, records, log);
    if (image) images.push(image);
  }
  for (const name of (await readdir(root)).sort()) {
    if (images.some(({ directory }) => directory === name)) continue;
    const image = await adoptDirectory(root, name, images, log);
    if (!image) continue;
    await records.insert(image);
    images.push(image);
  }
  return images.sort((a, b) => a.createdAt.localeCompare(b.createdAt));
}

async function openRecord(
  root: string,
  record: ImageRecord,
  records: ImageRecords,
  log: Log,
): Promise<ImageRecord | null> {
  const dir = join(root, record.directory);
  if (!(await exists(dir))) {
    log.warn({ image: record.id, dir }, 'the image has lost its directory and is dropped');
    await records.delete(record.id);
    return null;
  }
  const found = await readImageManifest(dir);
  if (found !== null && found.id !== record.id) {
    log.warn({ image: record.id, dir, found: found.id }, 'the directory holds another image; the row is dropped');
    await records.delete(record.id);
    return null;
  }
  if (found === null) await writeImageManifest(dir, record);
  const manifest = found ?? (await readImageManifest(dir))!;
  await recoverDirectory(dir, manifest);
  const image = await withPresentParts(dir, { ...withoutFormat(manifest), directory: record.directory }, log);
  if (JSON.stringify(image) !== JSON.stringify(record)) {
    await writeImageManifest(dir, image);
    await records.update(image);
  }
  return image;
}

/** Files that are gone or cut off are not spoken of any more. */
async function withPresentParts(dir: string, image: ImageRecord, log: Log): Promise<ImageRecord> {
  const present = await presentParts(dir, { format: 1, ...image });
  const lost = imageParts.filter((part) => image[part] !== null && !present.has(part));
  if (lost.length > 0) log.warn({ image: image.id, dir, lost }, 'files of the image are missing or damaged');
  return { ...image, ...Object.fromEntries(lost.map((part) => [part, null])) };
}

async function adoptDirectory(
  root: string,
  name: string,
  known: readonly ImageRecord[],
  log: Log,
): Promise<ImageRecord | null> {
  const dir = join(root, name);
  const manifest = await readImageManifest(dir);
  if (manifest === null) {
    await removeIfUnbegun(dir);
    return null;
  }
  const damaged = await damagedPart(dir, manifest);
  if (damaged !== null || known.some(({ id }) => id === manifest.id)) {
    log.warn({ dir, damaged }, 'a directory among the images is a copy of another or damaged; it is left alone');
    return null;
  }
  await recoverDirectory(dir, manifest);
  log.info({ dir, image: manifest.id }, 'took in an image directory');
  return { ...withoutFormat(manifest), directory: name };
}

async function damagedPart(dir: string, manifest: ImageManifest): Promise<ImagePart | null> {
  const present = await presentParts(dir, manifest);
  for (const part of imageParts) {
    const expected = manifest[part];
    if (expected === null) continue;
    if (!present.has(part) || (await describeFile(join(dir, partNames[part]))).sha256 !== expected.sha256) return part;
  }
  return null;
}

function withoutFormat({ format: _, ...rest }: ImageManifest): Omit<ImageManifest, 'format'> {
  return rest;
}

/** A create that was cut off before its manifest leaves nothing, or half a manifest; anything else is somebody's. */
async function removeIfUnbegun(dir: string): Promise<void> {
  const names = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOTDIR') return null;
    throw error;
  });
  if (names?.every(isTemporaryManifest)) await rm(dir, { recursive: true });
}
