import { crc32 } from 'node:zlib';

/** The filter LZMA2, which has one byte of properties: the size of its dictionary. */
const lzma2 = Buffer.from([0x21, 0x01]);
const largestDictionary = 40;
const streamHeaderBytes = 12;

/** A file in xz's format, of one block, that says it cannot be unpacked without 4 GiB of memory. */
export function withDictionaryOf4GiB(xz: Buffer): Buffer {
  const changed = Buffer.from(xz);
  const headerBytes = (changed[streamHeaderBytes]! + 1) * 4;
  const header = changed.subarray(streamHeaderBytes, streamHeaderBytes + headerBytes);
  header[header.indexOf(lzma2) + lzma2.length] = largestDictionary;
  header.writeUInt32LE(crc32(header.subarray(0, -4)), headerBytes - 4);
  return changed;
}
