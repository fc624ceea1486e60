/** From a received file to one that may stand in an image: checked, and a kernel unpacked. */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { BerthError } from '../common/errors.ts';
import { readElfKernel } from './elf.ts';
import { checkExt4 } from './ext4.ts';
import { FormatError } from './format-error.ts';
import { kernelFormat, UnknownPackingError, unpackBzImage } from './kernel.ts';
import type { Received } from './receive.ts';

/** What an image is made of, by the names of its files. */
export type ImagePart = 'kernel' | 'rootfs';

/**
 * Checks the received file at `path` and returns what describes it as it is then: a bzImage is replaced by the ELF kernel
 * in it, or kept when it is packed in a way unknown here. Throws `image_invalid`.
 */
export async function acceptFile(part: ImagePart, path: string, received: Received): Promise<Received> {
  try {
    return part === 'kernel' ? await acceptKernel(path, received) : await acceptRootfs(path, received);
  } catch (error) {
    throw error instanceof FormatError ? new BerthError('image_invalid', { reason: error.message }, error) : error;
  }
}

/** Hash and size of a file as it is on the disk. */
export async function describeFile(path: string): Promise<Received> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return { sha256: hash.digest('hex'), bytes: (await stat(path)).size };
}

async function acceptRootfs(path: string, received: Received): Promise<Received> {
  await using file = await open(path, 'r');
  await checkExt4(file);
  return received;
}

async function acceptKernel(path: string, received: Received): Promise<Received> {
  const unpacked = path.replace(/\.tmp$/, '.elf.tmp');
  {
    await using file = await open(path, 'r');
    if ((await kernelFormat(file)) === 'elf') {
      await readElfKernel(file);
      return received;
    }
  }
  try {
    await unpackBzImage(path, unpacked);
    await using file = await open(unpacked, 'r+');
    await file.sync();
    await rename(unpacked, path);
  } catch (error) {
    await rm(unpacked, { force: true });
    if (error instanceof UnknownPackingError) return received;
    throw error;
  }
  return await describeFile(path);
}
