/** What a file is that somebody wants as a disk, by its first bytes. Nothing of it is ever run or followed. */

import type { FileHandle } from 'node:fs/promises';
import type { DiskFormat } from './qcow2.ts';

/** A file that may not be a disk. `message` says why, in words fit for whoever named it. */
export class DiskFormatError extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = 'DiskFormatError';
  }
}

export interface InspectedDisk {
  readonly format: DiskFormat;
  /** What a guest would see, in bytes. */
  readonly virtualSizeBytes: number;
}

/** Formats of other machines, which a guest would see as garbage: their marks, where they stand, and their names. */
const foreign: readonly (readonly [name: string, offset: number, mark: string])[] = [
  ['VMDK', 0, 'KDMV'],
  ['VMDK', 0, 'COWD'],
  ['VMDK', 0, '# Disk DescriptorFile'],
  ['VHDX', 0, 'vhdxfile'],
  ['VHD', 0, 'conectix'],
  ['VDI', 0x40, '\x7f\x10\xda\xbe'],
  ['QED', 0, 'QED\0'],
  ['Parallels', 0, 'WithoutFreeSpace'],
  ['Parallels', 0, 'WithouFreSpacExt'],
];

const qcow2Magic = 'QFI\xfb';
const headerBytes = 104;
/** docs/interop/qcow2.txt of QEMU: bits of `incompatible_features`. */
const corrupt = 1n << 1n;
const knownFeatures = 0b11011n;

/**
 * A raw disk, or a qcow2 that stands alone: one whose header names another file, as a layer below it or for its data,
 * would have the host open that. Throws {@link DiskFormatError}.
 */
export async function inspectDisk(file: FileHandle): Promise<InspectedDisk> {
  const { size } = await file.stat();
  if (size === 0) throw new DiskFormatError('it is empty');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(headerBytes), 0, headerBytes, 0);
  const header = buffer.subarray(0, bytesRead);
  const has = (offset: number, mark: string) => header.toString('latin1', offset, offset + mark.length) === mark;
  if (has(0, qcow2Magic)) return { format: 'qcow2', virtualSizeBytes: qcow2Size(header) };
  const known = foreign.find(([, offset, mark]) => has(offset, mark));
  if (known) throw new DiskFormatError(`it is a ${known[0]} image; convert it to raw or qcow2`);
  return { format: 'raw', virtualSizeBytes: size };
}

function qcow2Size(header: Buffer): number {
  if (header.length < 72) throw new DiskFormatError('its qcow2 header is cut off');
  const version = header.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw new DiskFormatError(`it is a qcow2 image of unknown version ${version}`);
  if (header.readBigUInt64BE(8) !== 0n)
    throw new DiskFormatError('it is a qcow2 image that stands on another file; convert it to one that stands alone');
  if (header.readUInt32BE(32) !== 0) throw new DiskFormatError('it is an encrypted qcow2 image');
  if (version === 3) {
    if (header.length < headerBytes) throw new DiskFormatError('its qcow2 header is cut off');
    const features = header.readBigUInt64BE(72);
    if (features & corrupt) throw new DiskFormatError('it is a qcow2 image that is marked as damaged');
    if (features & ~knownFeatures)
      throw new DiskFormatError('it is a qcow2 image that keeps its data in another file, or of an unknown kind');
  }
  const size = header.readBigUInt64BE(24);
  if (size === 0n || size > BigInt(Number.MAX_SAFE_INTEGER)) throw new DiskFormatError('its qcow2 header is damaged');
  return Number(size);
}
