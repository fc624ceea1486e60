import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../common/log.ts';

/** Far more than a daemon writes until it serves. */
const spareBytes = 8 * 1024 * 1024;
/** Written in parts: a buffer for the whole would stay with the process for long after. */
const partBytes = 64 * 1024;

function spareFile(home: string): string {
  return join(home, 'spare');
}

/**
 * Gives up the space that the last daemon left, so that this one can start on a disk that has been full since. Call with
 * the data directory's lock held.
 */
export async function giveUpSpareSpace(home: string): Promise<void> {
  await rm(spareFile(home), { force: true });
}

/** Keeps space for the next start, as far as there is any. Never rejects: it is a precaution. */
export async function keepSpareSpace(home: string, log: Log): Promise<void> {
  try {
    // Written, not merely sized: a hole takes no space.
    const part = Buffer.alloc(partBytes, 0xff);
    await using file = await open(spareFile(home), 'w', 0o600);
    for (let written = 0; written < spareBytes; written += partBytes) await file.write(part);
  } catch (error) {
    log.warn({ err: error }, 'no space could be kept for the next start of the daemon');
  }
}
