/** As much of the ELF format as is needed to find a section of a kernel module. */

const MAGIC = 0x7f454c46;
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;

/** Content of the first section of that name in a 64-bit little-endian ELF file, or null. Never reads out of bounds. */
export function elfSection(file: Buffer, name: string): Buffer | null {
  if (file.length < 64 || file.readUInt32BE(0) !== MAGIC || file[4] !== CLASS_64 || file[5] !== LITTLE_ENDIAN)
    return null;
  const table = Number(file.readBigUInt64LE(0x28));
  const entrySize = file.readUInt16LE(0x3a);
  const count = file.readUInt16LE(0x3c);
  const namesIndex = file.readUInt16LE(0x3e);
  if (entrySize < 64 || namesIndex >= count || table + count * entrySize > file.length) return null;
  const section = (index: number): Buffer => {
    const at = table + index * entrySize;
    const offset = Number(file.readBigUInt64LE(at + 0x18));
    return file.subarray(offset, offset + Number(file.readBigUInt64LE(at + 0x20)));
  };
  const names = section(namesIndex);
  for (let index = 0; index < count; index++) {
    const start = file.readUInt32LE(table + index * entrySize);
    const end = names.indexOf(0, start);
    if (end >= start && names.toString('latin1', start, end) === name) return section(index);
  }
  return null;
}
