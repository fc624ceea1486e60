import { statfs } from 'node:fs/promises';
import { BerthError } from '../common/errors.ts';

const bytesPerMiB = 1024 * 1024;

/** Least space, MiB, that VMs which ran out of it are let go on with: with less they would be held again at once. */
const leastToGoOnMiB = 64;

/** Whether the file system of the data directory has at least `reserveMiB` free. */
async function hasSpace(home: string, reserveMiB: number): Promise<boolean> {
  const { bavail, bsize } = await statfs(home);
  return (bavail * bsize) / bytesPerMiB >= reserveMiB;
}

/** Throws `insufficient_storage` when the file system of the data directory has less than `reserveMiB` free. */
export async function checkSpace(home: string, reserveMiB: number): Promise<void> {
  if (!(await hasSpace(home, reserveMiB))) throw new BerthError('insufficient_storage');
}

/**
 * Whether VMs that are held for lack of space may go on: when there is room for new VMs too, so that they are not held
 * and let go in turns.
 */
export async function maySpaceBeUsed(home: string, reserveMiB: number): Promise<boolean> {
  return hasSpace(home, Math.max(reserveMiB, leastToGoOnMiB));
}
