import { chmodSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';

/** Another daemon runs on the data directory. */
export class HomeLockedError extends Error {
  constructor(home: string) {
    super(`another daemon uses ${home}: stop it, or choose another BERTH_HOME`);
    this.name = 'HomeLockedError';
  }
}

export interface HomeLock {
  release(): void;
}

/**
 * Takes the one lock of a data directory. Node has no flock, so the lock is SQLite's own: an exclusive transaction on a
 * file of its own, which the kernel lets go of when the process dies, however it dies.
 */
export function lockHome(home: string): HomeLock {
  const path = `${home}/lock.db`;
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    chmodSync(path, 0o600);
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;');
  } catch (error) {
    database.close();
    if (String(error).includes('locked')) throw new HomeLockedError(home);
    throw error;
  }
  return { release: () => database.close() };
}
