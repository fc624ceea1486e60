import type { DatabaseSync } from 'node:sqlite';

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

/** The whole transaction is gone, with a change of it or with its commit. */
class TransactionLost extends Error {}

/**
 * Changes that were asked for while the event loop was busy, committed together: one wait for the disk serves all of them.
 * Each is as atomic as alone. One that fails takes nothing of the others with it.
 */
export class CommitQueue {
  readonly #connection: DatabaseSync;
  #waiting: Change[] = [];
  #level: Durability = 'durable';

  /** The connection's commits wait for the disk. */
  constructor(connection: DatabaseSync) {
    this.#connection = connection;
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
    if (changes.length <= 1) {
      for (const change of changes) this.#commitAlone(change);
      return;
    }
    try {
      this.#commitTogether(changes);
    } catch (error) {
      if (!(error instanceof TransactionLost)) throw error;
      // Whichever of them it was that could not be done: the others can, each by itself.
      for (const change of changes) this.#commitAlone(change);
    }
  }

  #commitAlone(change: Change): void {
    try {
      this.#setLevel(change.durability);
      this.#connection.exec('BEGIN IMMEDIATE');
      const resolve = change.run();
      this.#connection.exec('COMMIT');
      resolve();
    } catch (error) {
      this.#rollBack();
      change.reject(error);
    }
  }

  #commitTogether(changes: readonly Change[]): void {
    const tell: (() => void)[] = [];
    try {
      this.#setLevel(changes.some(({ durability }) => durability === 'durable') ? 'durable' : 'relaxed');
      this.#connection.exec('BEGIN IMMEDIATE');
      for (const change of changes) tell.push(this.#runWithin(change));
      this.#connection.exec('COMMIT');
    } catch (error) {
      this.#rollBack();
      throw new TransactionLost('a commit failed', { cause: error });
    }
    for (const outcome of tell) outcome();
  }

  #runWithin(change: Change): () => void {
    this.#connection.exec('SAVEPOINT change');
    try {
      const resolve = change.run();
      this.#connection.exec('RELEASE change');
      return resolve;
    } catch (error) {
      // A full disk, for one, ends the transaction as a whole.
      if (!this.#connection.isTransaction) throw error;
      this.#connection.exec('ROLLBACK TO change; RELEASE change');
      return () => change.reject(error);
    }
  }

  #rollBack(): void {
    if (this.#connection.isTransaction) this.#connection.exec('ROLLBACK');
  }

  #setLevel(level: Durability): void {
    if (level === this.#level) return;
    this.#connection.exec(`PRAGMA synchronous = ${levels[level]}`);
    this.#level = level;
  }
}
