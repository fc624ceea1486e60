import { randomUUID } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { BerthError } from '../../common/errors.ts';

/** How many times the limit is read of a body that is too long. */
const drainFactor = 8;

/** A request body on disk, in a file without a name: nothing is left whatever happens to the daemon. */
export class Spool implements AsyncDisposable {
  readonly #file: FileHandle;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /**
   * Stores a body of at most `limit` bytes. A longer one is refused with `payload_too_large`, once it has been read to its
   * end or to {@link drainFactor} times the limit: most senders look for an answer only then.
   */
  static async store(body: Readable, limit: number, directory: string): Promise<Spool> {
    const path = join(directory, `.upload-${randomUUID()}`);
    const file = await open(path, 'wx+', 0o600);
    try {
      await unlink(path);
      let size = 0;
      // What is not read is left, not destroyed: the answer goes the same way.
      for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size <= limit) await file.writev([chunk]);
        else if (size > limit * drainFactor) break;
      }
      if (size > limit) throw new BerthError('payload_too_large');
      return new Spool(file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** From the beginning; may be called again once the last reader has ended. */
  read(): Readable {
    return this.#file.createReadStream({ start: 0, autoClose: false });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
