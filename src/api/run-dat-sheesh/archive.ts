/** Uploaded archives: checked as a whole before anything of them reaches a guest, then sent as a plain new archive. */

import { posix } from 'node:path';
import { PassThrough, type Readable, Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { extract, type Header, pack } from 'tar-stream';
import { DialectError } from './errors.ts';

export interface ArchiveLimits {
  readonly maxEntries: number;
  /** Bytes of all files together. */
  readonly maxUnpackedBytes: number;
}

const maxNameBytes = 4096;
/** Headers and padding come on top of the files: this much per entry. */
const overheadPerEntry = 8192;

function refuse(reason: string): DialectError {
  return new DialectError(400, reason);
}

/** Fails when more than `limit` bytes flow through: a small archive must not unpack to an endless one. */
class ByteLimit extends Transform {
  #left: number;

  constructor(limit: number) {
    super();
    this.#left = limit;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#left -= chunk.length;
    if (this.#left < 0) done(refuse('Tar exceeds uncompressed size limit'));
    else done(null, chunk);
  }
}

/** The entry's path relative to the destination, `.` for the destination itself. Throws 400 when it is not below it. */
export function entryPath(name: string): string {
  if (name === '' || name.includes('\0') || Buffer.byteLength(name) > maxNameBytes) throw refuse('Invalid tar entry');
  if (posix.isAbsolute(name)) throw refuse('Invalid tar entry');
  const path = posix.normalize(name).replace(/\/+$/, '');
  if (path === '..' || path.startsWith('../')) throw refuse('Invalid tar entry');
  return path === '' ? '.' : path;
}

function isDirectory(header: Header): boolean {
  return header.type === 'directory';
}

function checkType(header: Header): void {
  if (header.type !== 'file' && header.type !== 'contiguous-file' && header.type !== 'directory') {
    throw refuse('Tar contains disallowed entry type');
  }
}

function unpacked(archive: Readable, limits: ArchiveLimits) {
  const gunzip = createGunzip();
  const limit = new ByteLimit(limits.maxUnpackedBytes + limits.maxEntries * overheadPerEntry);
  const entries = extract();
  // Failures surface in the loop over the entries.
  const flow = pipeline(archive, gunzip, limit, entries);
  return { entries, flow };
}

/** Whatever a broken archive made zlib or the tar reader say, in this dialect's words. */
function asRefusal(error: unknown): unknown {
  return error instanceof DialectError ? error : new DialectError(400, 'Invalid tar archive');
}

async function eachEntry(
  archive: Readable,
  limits: ArchiveLimits,
  visit: (header: Header, path: string, content: Readable) => Promise<void>,
): Promise<void> {
  const { entries, flow } = unpacked(archive, limits);
  let count = 0;
  let size = 0;
  const walk = async (): Promise<void> => {
    for await (const entry of entries) {
      const { header } = entry;
      count += 1;
      size += header.size ?? 0;
      if (count > limits.maxEntries) throw refuse('Too many tar entries');
      if (size > limits.maxUnpackedBytes) throw refuse('Tar exceeds uncompressed size limit');
      checkType(header);
      await visit(header, entryPath(header.name), entry as unknown as Readable);
    }
  };
  // When the flow breaks its own error is the reason; the walk then only sees that its input has ended early.
  const [flowed, walked] = await Promise.allSettled([flow, walk()]);
  if (walked.status === 'rejected' && walked.reason instanceof DialectError) throw walked.reason;
  if (flowed.status === 'rejected') throw asRefusal(flowed.reason);
  if (walked.status === 'rejected') throw walked.reason;
}

/** Reads a gzipped tar archive to its end and throws 400 unless all of it may be unpacked. */
export function checkArchive(archive: Readable, limits: ArchiveLimits): Promise<void> {
  return eachEntry(archive, limits, async (_header, _path, content) => {
    for await (const _ of content) {
      // Only the headers matter; the content must be read for the next header to come.
    }
  });
}

/** Set-user-id and the like are dropped and others may not write, as an ordinary umask has it. */
function mode(header: Header): number {
  const asked = (header.mode ?? 0o644) & 0o755;
  return isDirectory(header) ? asked | 0o700 : asked | 0o400;
}

/**
 * An uncompressed archive with the same files and nothing else: no owners, no links, no vendor extensions. What the
 * guest unpacks is therefore what was checked, whichever way another reader might have understood the original.
 */
export function repackArchive(archive: Readable, limits: ArchiveLimits): Readable {
  const packer = pack();
  const output = new PassThrough();
  const flow = pipeline(packer, output);
  const copy = eachEntry(archive, limits, async (header, path, content) => {
    if (path === '.') return;
    const common = { name: path, mode: mode(header), ...(header.mtime === undefined ? {} : { mtime: header.mtime }) };
    if (isDirectory(header)) packer.entry({ ...common, name: `${path}/`, type: 'directory' });
    else await pipeline(content, packer.entry({ ...common, type: 'file', size: header.size ?? 0 }));
  });
  copy.then(
    () => packer.finalize(),
    (error: Error) => output.destroy(error),
  );
  // A reader that stops early, or the failure above, ends the packer too; the reader has been told.
  flow.catch((error: Error) => packer.destroy(error));
  return output;
}
