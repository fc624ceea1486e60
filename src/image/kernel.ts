/**
 * Kernels. A bzImage is unpacked to the ELF kernel inside it: decompression in the guest costs more than half of an
 * emulated boot. Formats: Documentation/arch/x86/boot.rst of the Linux source.
 */

import { spawn } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { type Duplex, Duplex as DuplexStream, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { type ElfKernel, isElf, readElfKernel } from './elf.ts';
import { FormatError } from './format-error.ts';

/** Longest unpacked kernel, far above any real one. */
const maxKernelBytes = 512 * 1024 * 1024;
/** What xz may need to unpack one: kernels are packed with dictionaries of at most 128 MiB. */
const xzMemory = '--memlimit-decompress=256MiB';
const setupHeaderBytes = 0x250;

/** A bzImage that may be good, but not one this host can look into. */
export class UnknownPackingError extends FormatError {}

export type KernelFormat = 'elf' | 'bzimage';

/** By the file's first bytes. Throws {@link FormatError} when it is neither. */
export async function kernelFormat(file: FileHandle): Promise<KernelFormat> {
  const start = Buffer.alloc(setupHeaderBytes);
  const { bytesRead } = await file.read(start, 0, setupHeaderBytes, 0);
  const header = start.subarray(0, bytesRead);
  if (isElf(header)) return 'elf';
  if (isBzImage(header)) return 'bzimage';
  throw new FormatError('not an ELF or bzImage kernel');
}

/**
 * Writes the ELF kernel inside the bzImage at `source` to `target`, which must not exist. Throws {@link FormatError} when
 * the payload is damaged, {@link UnknownPackingError} when it is packed in a way unknown here; what was written then is the
 * caller's to remove.
 */
export async function unpackBzImage(source: string, target: string): Promise<ElfKernel> {
  const payload = await findPayload(source);
  try {
    await pipeline(
      createReadStream(source, { start: payload.start, end: payload.start + payload.bytes - 1 }),
      decompressor(payload.magic),
      byteLimit(maxKernelBytes),
      createWriteStream(target, { flags: 'wx' }),
    );
  } catch (error) {
    throw error instanceof FormatError ? error : new FormatError('the kernel in the bzImage cannot be unpacked', error);
  }
  const file = await open(target, 'r+');
  try {
    const kernel = await readElfKernel(file);
    // Relocations for the boot loader's own use follow the kernel.
    await file.truncate(kernel.end);
    return kernel;
  } finally {
    await file.close();
  }
}

/** Kernel release, such as `6.1.0-40-cloud-amd64`, that a bzImage says it is. */
export async function bzImageRelease(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const header = Buffer.alloc(setupHeaderBytes);
    await file.read(header, 0, setupHeaderBytes, 0);
    if (!isBzImage(header)) throw new FormatError('not a bzImage kernel');
    const text = Buffer.alloc(256);
    await file.read(text, 0, text.length, header.readUInt16LE(0x20e) + 0x200);
    const release = /^[\x21-\x7e]+/.exec(text.toString('latin1'));
    if (release === null) throw new FormatError('the bzImage does not say its version');
    return release[0];
  } finally {
    await file.close();
  }
}

function isBzImage(header: Buffer): boolean {
  return header.length >= setupHeaderBytes && header.toString('latin1', 0x202, 0x206) === 'HdrS';
}

interface Payload {
  readonly start: number;
  readonly bytes: number;
  readonly magic: Buffer;
}

async function findPayload(source: string): Promise<Payload> {
  const file = await open(source, 'r');
  try {
    const { size } = await file.stat();
    const header = Buffer.alloc(setupHeaderBytes);
    await file.read(header, 0, setupHeaderBytes, 0);
    // The payload fields came with version 2.08 of the boot protocol.
    if (!isBzImage(header) || header.readUInt16LE(0x206) < 0x208) throw new FormatError('not a bzImage kernel');
    // Zero setup sectors means four, for the sake of the oldest kernels.
    const setupSectors = header[0x1f1] || 4;
    const start = (setupSectors + 1) * 512 + header.readUInt32LE(0x248);
    const bytes = header.readUInt32LE(0x24c);
    if (bytes < 16 || start + bytes > size) throw new FormatError('the bzImage is cut off');
    const magic = Buffer.alloc(6);
    await file.read(magic, 0, magic.length, start);
    // All but gzip are followed by the unpacked length, four bytes that are no part of their format.
    return { start, magic, bytes: isGzip(magic) ? bytes : bytes - 4 };
  } finally {
    await file.close();
  }
}

function isGzip(magic: Buffer): boolean {
  return magic.readUInt16BE(0) === 0x1f8b;
}

function decompressor(magic: Buffer): Duplex {
  const hex = magic.toString('hex');
  if (isGzip(magic)) return createGunzip();
  if (hex.startsWith('28b52ffd')) return createZstdDecompress();
  if (hex.startsWith('02214c18')) return filterProgram('lz4', ['-dc']);
  if (hex.startsWith('fd377a585a00')) return filterProgram('xz', ['-dc', xzMemory]);
  if (hex.startsWith('5d0000')) return filterProgram('xz', ['-dc', xzMemory, '--format=lzma']);
  if (hex.startsWith('425a68')) return filterProgram('bzip2', ['-dc']);
  throw new UnknownPackingError('the kernel in the bzImage is packed in an unknown way');
}

/** A host program from standard input to standard output, as a stream that fails unless the program exits 0. */
function filterProgram(command: string, args: readonly string[]): Duplex {
  return DuplexStream.from(async function* (input: AsyncIterable<Buffer>) {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    const ended = new Promise<void>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`${command} failed (${code})`))));
    });
    try {
      const fed = pipeline(input, child.stdin);
      // Awaited below; until then a failure shows in what the program does.
      Promise.allSettled([fed, ended]);
      yield* child.stdout;
      await fed;
      await ended;
    } finally {
      child.kill('SIGKILL');
    }
  });
}

function byteLimit(limit: number): Transform {
  let total = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      total += chunk.length;
      if (total > limit) done(new FormatError('the kernel in the bzImage is too large'));
      else done(null, chunk);
    },
  });
}
