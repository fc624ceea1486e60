import { open } from 'node:fs/promises';

/** The banner every Linux kernel carries: "Linux version 6.1.0-56-cloud-amd64 (builder@host) …". */
const BANNER = Buffer.from('Linux version ');
const RELEASE = /^[A-Za-z0-9._+~-]{1,64}$/;
const CHUNK = 1024 * 1024;

/** Bytes of the file, fewer at its end. The next call overwrites them. */
type Read = (at: number, length: number) => Promise<Buffer>;

/** bzImage: magic at 0x202, and at 0x20e the distance (less 0x200) to the release string. */
async function bzImageRelease(read: Read): Promise<string | null> {
  const setup = await read(0, 0x210);
  if (setup.length < 0x210 || setup.toString('latin1', 0x202, 0x206) !== 'HdrS') return null;
  const pointer = setup.readUInt16LE(0x20e);
  if (pointer === 0) return null;
  const text = await read(pointer + 0x200, 128);
  return text.toString('latin1', 0, Math.max(0, text.indexOf(0))).split(' ')[0] ?? null;
}

/**
 * The release a kernel file (bzImage, or uncompressed ELF) calls itself by, as `uname -r` would print it; null when it
 * cannot be told. Reads the file in pieces.
 */
export async function kernelRelease(path: string): Promise<string | null> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(CHUNK);
    const read: Read = async (at, length) => {
      const { bytesRead } = await file.read(buffer, 0, length, at);
      return buffer.subarray(0, bytesRead);
    };
    const fromSetup = await bzImageRelease(read);
    if (fromSetup !== null) return RELEASE.test(fromSetup) ? fromSetup : null;
    // Pieces overlap by more than a banner, so that none is cut in two.
    for (let at = 0; ; at += CHUNK - 256) {
      const piece = await read(at, CHUNK);
      for (let found = piece.indexOf(BANNER); found >= 0; found = piece.indexOf(BANNER, found + 1)) {
        const start = found + BANNER.length;
        const release = piece.toString('latin1', start, start + 65).split(' ')[0] ?? '';
        // Format strings such as "Linux version %s" occur too.
        if (RELEASE.test(release) && /^\d/.test(release)) return release;
      }
      if (piece.length < CHUNK) return null;
    }
  } finally {
    await file.close();
  }
}
