import { open } from 'node:fs/promises';

/** What a header may be long, its texts included: QEMU's limit is the first cluster. */
const headerBytes = 64 * 1024;
const longestName = 1023;
const magic = 0x514649fb;

/**
 * The name of the layer below, as a qcow2 file's header has it, null when it has none. Works while a VM uses the file. What
 * it says was perhaps written by a guest that got hold of its process. Throws when it is no qcow2 header.
 */
export async function readBacking(path: string): Promise<string | null> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(headerBytes);
    const { bytesRead } = await file.read(buffer, 0, headerBytes, 0);
    const header = buffer.subarray(0, bytesRead);
    if (header.length < 72 || header.readUInt32BE(0) !== magic) throw new Error('not a qcow2 file');
    const offset = Number(header.readBigUInt64BE(8));
    const length = header.readUInt32BE(16);
    if (offset === 0) return null;
    if (length === 0 || length > longestName || offset + length > header.length)
      throw new Error('a qcow2 header with a name that it does not hold');
    return header.toString('latin1', offset, offset + length);
  } finally {
    await file.close();
  }
}
