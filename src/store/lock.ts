import { chmodSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';

/** Somebody else holds a lock; the message says who and what to do. */
export class LockedError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'LockedError';
  }
}

export interface FileLock {
  release(): void;
}

/**
 * Takes a lock that one process at a time can have. Node has no flock, so the lock is SQLite's own: an exclusive
 * transaction on a file of its own, which the kernel lets go of when the process dies, however it dies.
 *
 * @throws LockedError with `message` when another process has it
 */
export function lockFile(path: string, message: string): FileLock {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    chmodSync(path, 0o600);
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;');
  } catch (error) {
    database.close();
    if (String(error).includes('locked')) throw new LockedError(message);
    throw error;
  }
  return { release: () => database.close() };
}

/** The one lock of a data directory. */
export function lockHome(home: string): FileLock {
  return lockFile(`${home}/lock.db`, `another daemon uses ${home}: stop it, or choose another BERTH_HOME`);
}
