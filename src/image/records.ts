/** What is kept about images in the database, and beside their files. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { writeFileAtomic } from '../common/files.ts';
import { isTemporary } from './temporary.ts';

const fileSchema = z.strictObject({
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  bytes: z.int().nonnegative(),
  uploadedAt: z.iso.datetime(),
});

const manifestSchema = z.strictObject({
  format: z.literal(1),
  id: z.string().regex(/^img-[0-9a-f-]{36}$/),
  name: z.string(),
  description: z.string(),
  createdAt: z.iso.datetime(),
  kernel: fileSchema.nullable(),
  rootfs: fileSchema.nullable(),
});

/** What `image.json` holds, so that an image's directory describes itself. */
export type ImageManifest = z.infer<typeof manifestSchema>;

/** An image's row. */
export interface ImageRecord extends Omit<ImageManifest, 'format'> {
  /** Name of its directory among the images. */
  readonly directory: string;
}

/** The image table, as the image store needs it. */
export interface ImageRecords {
  list(): Promise<readonly ImageRecord[]>;
  insert(record: ImageRecord): Promise<void>;
  /** Replaces the row of `record.id`. */
  update(record: ImageRecord): Promise<void>;
  /** The row may be the default image's: none is then. */
  delete(id: string): Promise<void>;
  getDefault(): Promise<string | null>;
  setDefault(id: string): Promise<void>;
}

export async function writeImageManifest(dir: string, { directory: _, ...record }: ImageRecord): Promise<void> {
  await writeFileAtomic(join(dir, 'image.json'), `${JSON.stringify({ format: 1, ...record }, null, 2)}\n`);
}

/** Whether a name is that of a manifest whose writing was cut off. */
export function isTemporaryManifest(name: string): boolean {
  return name.startsWith('image.json.') && isTemporary(name);
}

/** Null when there is none, or it is not one of ours. */
export async function readImageManifest(dir: string): Promise<ImageManifest | null> {
  try {
    return manifestSchema.parse(JSON.parse(await readFile(join(dir, 'image.json'), 'utf8')));
  } catch (error) {
    if (
      (error as NodeJS.ErrnoException).code === 'ENOENT' ||
      error instanceof SyntaxError ||
      error instanceof z.ZodError
    ) {
      return null;
    }
    throw error;
  }
}
