import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import { BerthError } from '../common/errors.ts';
import { writeAt } from '../common/files.ts';
import { memoryPageBytes } from '../engine/engine.ts';

/** Bytes copied at a time. */
const chunkBytes = 4 * 1024 * 1024;

const count = z.number().int().nonnegative();

/**
 * What is in a memory file: guest pages one after another, those that hold nothing but zeros left out. `runs` are
 * `[first page, number of pages]` in the order of the file; each page is in it once.
 */
export const memoryIndexSchema = z.object({
  /** Size of the guest's memory. */
  memoryMiB: z.number().int().positive(),
  runs: z.array(z.tuple([count, z.number().int().positive()])),
  /** Lower-case hex SHA-256 of the whole file. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

export type MemoryIndex = z.infer<typeof memoryIndexSchema>;

/** Takes a guest's memory down into a file, page by page in any order. */
export class MemoryFileWriter implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #memoryMiB: number;
  /** One byte for each page: whether something was said of it. */
  readonly #known: Uint8Array;
  readonly #runs: [number, number][] = [];
  readonly #hash = createHash('sha256');

  private constructor(file: FileHandle, memoryMiB: number) {
    this.#file = file;
    this.#memoryMiB = memoryMiB;
    this.#known = new Uint8Array((memoryMiB * 1024 * 1024) / memoryPageBytes);
  }

  /** The file must not exist; it is readable by its owner only. */
  static async create(path: string, memoryMiB: number): Promise<MemoryFileWriter> {
    return new MemoryFileWriter(await open(path, 'wx', 0o600), memoryMiB);
  }

  /** Whole pages, `page` the number of the first. Each page may be given once. */
  async take(page: number, bytes: Buffer): Promise<void> {
    const pages = bytes.length / memoryPageBytes;
    this.#known.fill(1, page, page + pages);
    let from = 0;
    for (let n = 0; n <= pages; n++) {
      if (n < pages && !isZero(bytes, n * memoryPageBytes)) continue;
      await this.#append(page + from, bytes.subarray(from * memoryPageBytes, n * memoryPageBytes));
      from = n + 1;
    }
  }

  /**
   * Adds what `below` has of the pages nobody said anything of. Pages in neither are zero. Throws `snapshot_damaged` when
   * the file below ends early.
   *
   * @param isDurable whether the file is to outlive the host
   */
  async finish(
    below: { readonly path: string; readonly index: MemoryIndex } | null,
    isDurable = true,
  ): Promise<MemoryIndex> {
    if (below !== null) await this.#takeUnknown(below.path, below.index);
    if (isDurable) await this.#file.sync();
    return { memoryMiB: this.#memoryMiB, runs: this.#runs, sha256: this.#hash.digest('hex') };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  async #takeUnknown(path: string, index: MemoryIndex): Promise<void> {
    await using file = await open(path, 'r');
    let position = 0;
    for (const [first, pages] of index.runs) {
      for (let page = first; page < first + pages; ) {
        const known = this.#known[page];
        let end = page + 1;
        while (end < first + pages && this.#known[end] === known && (end - page) * memoryPageBytes < chunkBytes) end++;
        const bytes = (end - page) * memoryPageBytes;
        if (known === 0) await this.#append(page, await readExactly(file, bytes, position));
        position += bytes;
        page = end;
      }
    }
  }

  async #append(page: number, bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    const last = this.#runs.at(-1);
    const pages = bytes.length / memoryPageBytes;
    if (last !== undefined && last[0] + last[1] === page) last[1] += pages;
    else this.#runs.push([page, pages]);
    this.#hash.update(bytes);
    await this.#file.writeFile(bytes);
  }
}

/**
 * Puts a memory file's pages where they belong in `target`. Throws `snapshot_damaged` when the file is not the one the
 * index describes; what has been written until then is to be thrown away.
 *
 * @param isFresh this process has just written it: it is not held against its checksum
 */
export async function loadMemory(path: string, index: MemoryIndex, target: FileHandle, isFresh = false): Promise<void> {
  const hash = isFresh ? null : createHash('sha256');
  const limit = (index.memoryMiB * 1024 * 1024) / memoryPageBytes;
  await using file = await open(path, 'r').catch((error: unknown) => {
    throw new BerthError('snapshot_damaged', {}, error);
  });
  let position = 0;
  for (const [first, pages] of index.runs) {
    if (first + pages > limit) throw new BerthError('snapshot_damaged', {}, new Error('pages beyond the memory'));
    for (let done = 0; done < pages * memoryPageBytes; ) {
      const bytes = await readExactly(file, Math.min(chunkBytes, pages * memoryPageBytes - done), position);
      hash?.update(bytes);
      await writeAt(target, bytes, first * memoryPageBytes + done);
      done += bytes.length;
      position += bytes.length;
    }
  }
  if (hash !== null && hash.digest('hex') !== index.sha256)
    throw new BerthError('snapshot_damaged', {}, new Error('the checksum of the memory is wrong'));
}

const zeros = Buffer.alloc(memoryPageBytes);

function isZero(bytes: Buffer, start: number): boolean {
  // Most pages show in their first bytes that they hold something.
  if (bytes[start] !== 0) return false;
  return bytes.compare(zeros, 0, memoryPageBytes, start, start + memoryPageBytes) === 0;
}

/** Throws `snapshot_damaged` when the file ends before. */
export async function readExactly(file: FileHandle, length: number, position: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(bytes, done, length - done, position + done);
    if (bytesRead === 0) throw new BerthError('snapshot_damaged', {}, new Error('the file ends early'));
    done += bytesRead;
  }
  return bytes;
}
