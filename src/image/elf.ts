/** As much of ELF as it takes to tell a bootable x86-64 kernel from anything else. */

import type { FileHandle } from 'node:fs/promises';
import { FormatError } from './format-error.ts';

const headerBytes = 64;
const machineX8664 = 62;
const programNote = 4;
const sectionNoBits = 8;
/** Xen's note that gives the 32-bit PVH entry point. */
const pvhNoteType = 18;
const maxHeaders = 4096;
const maxNoteBytes = 1024 * 1024;

export interface ElfKernel {
  /** Bytes up to the end of the last thing the headers speak of; what follows is no part of the kernel. */
  readonly end: number;
  /** Whether it can be started directly, without a boot loader, by the PVH protocol. */
  readonly pvh: boolean;
}

export function isElf(start: Buffer): boolean {
  return start.length >= 4 && start.readUInt32BE(0) === 0x7f454c46;
}

/** Throws {@link FormatError} unless the file is a whole x86-64 ELF executable. */
export async function readElfKernel(file: FileHandle): Promise<ElfKernel> {
  const { size } = await file.stat();
  const header = await readExactly(file, 0, headerBytes, size);
  if (!isElf(header)) throw new FormatError('not an ELF file');
  // Class 64 bits, little endian.
  if (header[4] !== 2 || header[5] !== 1 || header.readUInt16LE(18) !== machineX8664) {
    throw new FormatError('the ELF file is not for x86-64');
  }
  const segments = await readTable(
    file,
    size,
    header.readBigUInt64LE(32),
    header.readUInt16LE(54),
    56,
    header.readUInt16LE(56),
  );
  const sections = await readTable(
    file,
    size,
    header.readBigUInt64LE(40),
    header.readUInt16LE(58),
    64,
    header.readUInt16LE(60),
  );
  if (segments.rows.length === 0) throw new FormatError('the ELF file has nothing to load');
  let end = Math.max(headerBytes, segments.end, sections.end);
  let pvh = false;
  for (const row of segments.rows) {
    const offset = fileOffset(row.readBigUInt64LE(8));
    const bytes = fileOffset(row.readBigUInt64LE(32));
    end = Math.max(end, offset + bytes);
    if (row.readUInt32LE(0) === programNote && bytes <= maxNoteBytes) {
      pvh ||= hasPvhNote(await readExactly(file, offset, bytes, size));
    }
  }
  for (const row of sections.rows) {
    if (row.readUInt32LE(4) === sectionNoBits) continue;
    end = Math.max(end, fileOffset(row.readBigUInt64LE(24)) + fileOffset(row.readBigUInt64LE(32)));
  }
  if (end > size) throw new FormatError('the ELF file is cut off');
  return { end, pvh };
}

interface Table {
  readonly rows: readonly Buffer[];
  readonly end: number;
}

async function readTable(
  file: FileHandle,
  size: number,
  offset: bigint,
  rowBytes: number,
  leastRowBytes: number,
  count: number,
): Promise<Table> {
  if (count === 0) return { rows: [], end: 0 };
  if (rowBytes < leastRowBytes || rowBytes > 256 || count > maxHeaders)
    throw new FormatError('the ELF headers are damaged');
  const start = fileOffset(offset);
  const table = await readExactly(file, start, rowBytes * count, size);
  const rows = Array.from({ length: count }, (_, index) => table.subarray(index * rowBytes, (index + 1) * rowBytes));
  return { rows, end: start + table.length };
}

function hasPvhNote(notes: Buffer): boolean {
  const align = (value: number) => (value + 3) & ~3;
  for (let at = 0; at + 12 <= notes.length; ) {
    const nameBytes = notes.readUInt32LE(at);
    const descriptionBytes = notes.readUInt32LE(at + 4);
    if (nameBytes > notes.length || descriptionBytes > notes.length) return false;
    const name = notes.toString('latin1', at + 12, at + 12 + nameBytes);
    if (name === 'Xen\0' && notes.readUInt32LE(at + 8) === pvhNoteType) return true;
    at += 12 + align(nameBytes) + align(descriptionBytes);
  }
  return false;
}

function fileOffset(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FormatError('the ELF headers are damaged');
  return Number(value);
}

async function readExactly(file: FileHandle, offset: number, bytes: number, size: number): Promise<Buffer> {
  if (offset + bytes > size) throw new FormatError('the ELF file is cut off');
  const buffer = Buffer.alloc(bytes);
  const { bytesRead } = await file.read(buffer, 0, bytes, offset);
  if (bytesRead !== bytes) throw new FormatError('the ELF file is cut off');
  return buffer;
}
