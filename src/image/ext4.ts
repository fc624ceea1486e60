/** As much of ext4 as it takes to accept or refuse a root file system. */

import type { FileHandle } from 'node:fs/promises';
import { FormatError } from './format-error.ts';

const superblockOffset = 1024;
const superblockBytes = 1024;
const magic = 0xef53;
const stateClean = 0x1;
const stateErrors = 0x2;
const compatJournal = 0x4;
const incompatJournalDevice = 0x8;
const incompat64Bit = 0x80;
const maxLogBlockSize = 6;

/** Throws {@link FormatError} unless the file is a whole ext2, ext3 or ext4 file system fit to be mounted. */
export async function checkExt4(file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  const block = Buffer.alloc(superblockBytes);
  const { bytesRead } = await file.read(block, 0, superblockBytes, superblockOffset);
  if (bytesRead !== superblockBytes || block.readUInt16LE(0x38) !== magic)
    throw new FormatError('not an ext4 file system');
  const logBlockSize = block.readUInt32LE(0x18);
  const incompat = block.readUInt32LE(0x60);
  const high = incompat & incompat64Bit ? block.readUInt32LE(0x150) : 0;
  const blocks = high * 2 ** 32 + block.readUInt32LE(0x4);
  if (logBlockSize > maxLogBlockSize || blocks === 0 || block.readUInt32LE(0x0) === 0) {
    throw new FormatError('the ext4 superblock is damaged');
  }
  if (incompat & incompatJournalDevice) throw new FormatError('the file is an ext4 journal, not a file system');
  if (blocks * 1024 * 2 ** logBlockSize > size) throw new FormatError('the ext4 file system is cut off');
  const state = block.readUInt16LE(0x3a);
  if (state & stateErrors) throw new FormatError('the ext4 file system has errors; run e2fsck on it');
  // A journal that needs replay is no harm: the guest replays it when it mounts its own copy.
  if (!(state & stateClean) && !(block.readUInt32LE(0x5c) & compatJournal)) {
    throw new FormatError('the ext4 file system was not unmounted cleanly; run e2fsck on it');
  }
}
