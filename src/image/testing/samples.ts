/** The smallest files that pass for a kernel, a root file system, a bzImage and a zip. */

import { spawnSync } from 'node:child_process';
import { crc32, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';

/** An x86-64 ELF executable of `bytes` bytes with one segment and, if asked, the PVH note. */
export function sampleElf(bytes = 4096, { machine = 62, pvh = true } = {}): Buffer {
  const elf = Buffer.alloc(bytes, 0x90);
  elf.fill(0, 0, 64 + 2 * 56 + 32);
  elf.write('\x7fELF', 'latin1');
  elf.set([2, 1, 1], 4);
  elf.writeUInt16LE(2, 16);
  elf.writeUInt16LE(machine, 18);
  elf.writeBigUInt64LE(64n, 32);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(2, 56);
  // A segment to load: the whole file.
  elf.writeUInt32LE(1, 64);
  elf.writeBigUInt64LE(BigInt(bytes), 64 + 32);
  // A note segment.
  const note = 64 + 2 * 56;
  elf.writeUInt32LE(4, 120);
  elf.writeBigUInt64LE(BigInt(note), 120 + 8);
  elf.writeBigUInt64LE(20n, 120 + 32);
  elf.writeUInt32LE(4, note);
  elf.writeUInt32LE(4, note + 4);
  elf.writeUInt32LE(pvh ? 18 : 1, note + 8);
  elf.write('Xen\0', note + 12, 'latin1');
  return elf;
}

export interface SuperblockChanges {
  readonly magic?: number;
  readonly blocks?: number;
  readonly state?: number;
  readonly compat?: number;
  readonly incompat?: number;
  readonly logBlockSize?: number;
}

/** An ext4 image as far as its superblock tells: `bytes` bytes of 4 KiB blocks. */
export function sampleExt4(bytes = 64 * 1024, changes: SuperblockChanges = {}): Buffer {
  const image = Buffer.alloc(bytes);
  image.writeUInt32LE(16, 1024);
  image.writeUInt32LE(changes.blocks ?? bytes / 4096, 1024 + 0x4);
  image.writeUInt32LE(changes.logBlockSize ?? 2, 1024 + 0x18);
  image.writeUInt16LE(changes.magic ?? 0xef53, 1024 + 0x38);
  image.writeUInt16LE(changes.state ?? 1, 1024 + 0x3a);
  image.writeUInt32LE(changes.compat ?? 0x4, 1024 + 0x5c);
  image.writeUInt32LE(changes.incompat ?? 0x40, 1024 + 0x60);
  return image;
}

export const packings = ['gzip', 'zstd', 'lz4', 'xz', 'lzma', 'bzip2'] as const;
export type Packing = (typeof packings)[number];

/** A bzImage around `payload`, which stands after one setup sector of code. */
export function sampleBzImage(payload: Buffer, release = '6.1.0-test'): Buffer {
  const image = Buffer.alloc(2 * 512 + payload.length);
  image[0x1f1] = 1;
  image.write('HdrS', 0x202, 'latin1');
  image.writeUInt16LE(0x20f, 0x206);
  image.writeUInt16LE(0x80, 0x20e);
  image.write(`${release} (builder) #1\0`, 0x280, 'latin1');
  image.writeUInt32LE(0, 0x248);
  image.writeUInt32LE(payload.length, 0x24c);
  payload.copy(image, 2 * 512);
  return image;
}

/** A kernel packed as the kernel's build does it: all but gzip are followed by the unpacked length. */
export function pack(packing: Packing, kernel: Buffer): Buffer {
  if (packing === 'gzip') return gzipSync(kernel);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(kernel.length);
  return Buffer.concat([packing === 'zstd' ? zstdCompressSync(kernel) : packWith(packing, kernel), length]);
}

function packWith(packing: Exclude<Packing, 'gzip' | 'zstd'>, kernel: Buffer): Buffer {
  const commands = {
    lz4: ['lz4', '-l', '-c'],
    xz: ['xz', '-c', '--check=crc32'],
    lzma: ['xz', '-c', '--format=lzma'],
    bzip2: ['bzip2', '-c'],
  } as const;
  const [command, ...args] = commands[packing];
  const { stdout, status } = spawnSync(command, args, { input: kernel });
  if (status !== 0) throw new Error(`${command} failed`);
  return stdout;
}

/** A deflated zip; `claimedBytes` makes every entry lie about its unpacked size. */
export function sampleZip(files: readonly (readonly [name: string, content: Buffer])[], claimedBytes?: number): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of files) {
    const packed = deflateRawSync(content);
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(8, 4);
    common.writeUInt32LE(crc32(content), 10);
    common.writeUInt32LE(packed.length, 14);
    common.writeUInt32LE(claimedBytes ?? content.length, 18);
    common.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, tail, Buffer.from(name));
    parts.push(local);
    offset += local.length;
  }
  const central = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(files.length, 8);
  end.writeUInt16LE(files.length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, central, end]);
}
