import { realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * The directory on the way to `path` that other users may not pass through, the topmost of them; null when they reach it.
 * VM processes are other users, and open their disks by path.
 */
export async function closedOnTheWay(path: string): Promise<string | null> {
  const parent = dirname(path);
  if (parent === path) return null;
  const above = await closedOnTheWay(parent);
  if (above !== null) return above;
  return ((await stat(parent)).mode & 0o001) === 0 ? parent : null;
}

/** What is to be done where {@link closedOnTheWay} finds a directory, or null. Only root's VMs run as other users. */
export async function reachAdvice(home: string): Promise<string | null> {
  if (process.getuid?.() !== 0) return null;
  const closed = await closedOnTheWay(await realpath(home));
  return closed && `VM processes cannot reach it: chmod o+x ${closed}, or set BERTH_HOME to a directory elsewhere`;
}
