/** Taking a stream of unknown length from a client onto the disk. */

import { createHash } from 'node:crypto';
import { type FileHandle, open, statfs } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { BerthError } from '../common/errors.ts';
import { writeAt } from '../common/files.ts';

/** Bytes written between two looks at the free space. */
const spaceCheckBytes = 64 * 1024 * 1024;

export interface ReceiveLimits {
  /** More is `payload_too_large`. */
  readonly maxBytes: number;
  /** Bytes of the file system that must stay free, else `insufficient_storage`. */
  readonly reserveBytes: number;
}

export interface Received {
  readonly sha256: string;
  readonly bytes: number;
}

/**
 * Writes `body` to the new file `path`, durably, with holes where whole chunks are zero. On failure what was written is
 * the caller's to remove. Throws `payload_too_large`, `insufficient_storage`, or `invalid_argument` when the body is cut off.
 */
export async function receiveFile(body: Readable, path: string, limits: ReceiveLimits): Promise<Received> {
  // A body may fail before it is read; the failure shows when it is.
  body.on('error', () => {});
  await requireSpace(path.slice(0, path.lastIndexOf('/')), limits.reserveBytes);
  const file = await open(path, 'wx', 0o644);
  try {
    const received = await writeBody(body, file, path, limits);
    await file.sync();
    return received;
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'ENOSPC'
      ? new BerthError('insufficient_storage', {}, error)
      : error;
  } finally {
    await file.close();
  }
}

async function writeBody(body: Readable, file: FileHandle, path: string, limits: ReceiveLimits): Promise<Received> {
  const hash = createHash('sha256');
  let bytes = 0;
  let checked = 0;
  for await (const chunk of readBody(body)) {
    if (bytes + chunk.length > limits.maxBytes) throw new BerthError('payload_too_large');
    hash.update(chunk);
    if (!isZero(chunk)) await writeAt(file, chunk, bytes);
    bytes += chunk.length;
    if (bytes - checked >= spaceCheckBytes) {
      await requireSpace(path, limits.reserveBytes);
      checked = bytes;
    }
  }
  await file.truncate(bytes);
  return { sha256: hash.digest('hex'), bytes };
}

/** Tells a failure of the sender from one of ours. */
async function* readBody(body: Readable): AsyncGenerator<Buffer> {
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  try {
    for (;;) {
      const next = await chunks.next().catch((error: unknown) => {
        throw error instanceof BerthError
          ? error
          : new BerthError('invalid_argument', { reason: 'The upload was cut off' }, error);
      });
      if (next.done) return;
      yield next.value;
    }
  } finally {
    body.destroy();
  }
}

function isZero(chunk: Buffer): boolean {
  return chunk[0] === 0 && chunk.equals(Buffer.alloc(chunk.length));
}

async function requireSpace(path: string, reserveBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(path);
  if (bavail * bsize < reserveBytes) throw new BerthError('insufficient_storage');
}
