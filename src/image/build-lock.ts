import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';

/** Milliseconds between two looks at a lock that somebody else holds. */
const retryMs = 500;

/**
 * Runs `work` while holding the lock file at `path`; waits, calling `onWait` once, while another process holds it. The
 * lock is SQLite's on an empty database: the kernel lets go of it when its holder dies, however that happens.
 */
export async function withBuildLock<T>(
  path: string,
  onWait: () => void,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  using database = new DatabaseSync(path, { timeout: 0 });
  for (let first = true; !tryLock(database); first = false) {
    if (first) onWait();
    await sleep(retryMs, undefined, { signal });
  }
  return await work();
}

function tryLock(database: DatabaseSync): boolean {
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;');
    return true;
  } catch (error) {
    if (String(error).includes('locked')) return false;
    throw error;
  }
}
