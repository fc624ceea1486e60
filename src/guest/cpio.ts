/** The "newc" cpio format, which Linux reads as an initramfs. */

export interface CpioEntry {
  /** Relative path without a leading slash; parents must come before children. */
  readonly name: string;
  /** Type and permission bits, e.g. 0o100755 for a program, 0o040755 for a directory, 0o020600 for a character device. */
  readonly mode: number;
  readonly data?: Uint8Array;
  /** Major and minor number of a device. */
  readonly device?: readonly [number, number];
}

const ALIGNMENT = 4;
/** The kernel reads whole sectors. */
const BLOCK = 512;

function padding(length: number, alignment: number): Buffer {
  return Buffer.alloc((alignment - (length % alignment)) % alignment);
}

function header(entry: CpioEntry, inode: number): Buffer {
  const size = entry.data?.length ?? 0;
  const [major, minor] = entry.device ?? [0, 0];
  // inode, mode, uid, gid, links, mtime, size, device of the archive (2), device of a node (2), name length, checksum
  const fields = [inode, entry.mode, 0, 0, 1, 0, size, 0, 0, major, minor, Buffer.byteLength(entry.name) + 1, 0];
  return Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${entry.name}\0`);
}

/** A reproducible archive: the same entries give the same bytes. */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  const all: CpioEntry[] = [...entries, { name: 'TRAILER!!!', mode: 0 }];
  for (const [index, entry] of all.entries()) {
    const data = entry.data ?? Buffer.alloc(0);
    if (data.length > 0xffff_ffff) throw new RangeError(`${entry.name} is too large for an initramfs`);
    const head = header(entry, index + 1);
    parts.push(head, padding(head.length, ALIGNMENT), data, padding(data.length, ALIGNMENT));
  }
  const archive = Buffer.concat(parts);
  return Buffer.concat([archive, padding(archive.length, BLOCK)]);
}
