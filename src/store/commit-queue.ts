import type { DatabaseSync, StatementSync } from 'node:sqlite';

/** What a change outlives once it is reported: a loss of power, or only the end of the process. */
export type Durability = 'durable' | 'relaxed';

interface Change {
  readonly durability: Durability;
  /** Makes the change within a transaction; returns what tells its maker of the outcome once that is committed. */
  run(): () => void;
  reject(error: unknown): void;
}

/** SQLite's names for whether a commit waits for the disk. */
const levels: Readonly<Record<Durability, string>> = { durable: 'FULL', relaxed: 'NORMAL' };

/**
 * Changes that were asked for while the event loop was busy, committed together: one wait for the disk serves all of them.
 * When one of them fails, or their commit does, all are taken back and each is made by itself: none takes others with it.
 */
export class CommitQueue {
  readonly #connection: DatabaseSync;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  #waiting: Change[] = [];
  #level: Durability = 'durable';

  /** The connection's commits wait for the disk. */
  constructor(connection: DatabaseSync) {
    this.#connection = connection;
    this.#begin = connection.prepare('BEGIN IMMEDIATE');
    this.#commit = connection.prepare('COMMIT');
  }

  add<T>(task: () => T, durability: Durability): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const run = () => {
      const result = task();
      return () => resolve(result);
    };
    if (this.#waiting.push({ durability, run, reject }) === 1) setImmediate(() => this.flush());
    return promise;
  }

  /** Commits now what waits. */
  flush(): void {
    const changes = this.#waiting;
    this.#waiting = [];
    if (changes.length > 1 && this.#commitTogether(changes)) return;
    for (const change of changes) this.#commitAlone(change);
  }

  /** False when nothing of it was done. */
  #commitTogether(changes: readonly Change[]): boolean {
    try {
      const outcomes = this.#transact(changes);
      for (const tell of outcomes) tell();
      return true;
    } catch {
      // Who it was, and why, is found out when each is tried by itself.
      return false;
    }
  }

  #commitAlone(change: Change): void {
    try {
      const [tell] = this.#transact([change]);
      tell?.();
    } catch (error) {
      change.reject(error);
    }
  }

  #transact(changes: readonly Change[]): readonly (() => void)[] {
    this.#setLevel(changes.some(({ durability }) => durability === 'durable') ? 'durable' : 'relaxed');
    this.#begin.run();
    try {
      const outcomes = changes.map((change) => change.run());
      this.#commit.run();
      return outcomes;
    } catch (error) {
      // A full disk, for one, may have ended the transaction.
      if (this.#connection.isTransaction) this.#connection.exec('ROLLBACK');
      throw error;
    }
  }

  #setLevel(level: Durability): void {
    if (level === this.#level) return;
    this.#connection.exec(`PRAGMA synchronous = ${levels[level]}`);
    this.#level = level;
  }
}
