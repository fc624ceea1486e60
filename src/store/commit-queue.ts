import type { DatabaseSync, StatementSync } from 'node:sqlite';

/** What a change outlives once it is reported: a loss of power, or only the end of the process. */
export type Durability = 'durable' | 'relaxed';

interface Change {
  /** Makes the change within a transaction; returns what tells its maker of the outcome, given when it may be told. */
  run(): (committed: Promise<void> | null) => void;
  readonly durability: Durability;
  reject(error: unknown): void;
}

/**
 * Changes that were asked for while the event loop was busy, committed together. Those that are to be durable wait for the
 * disk besides, all for the same. When one of them fails, or their commit does, all are taken back and each is made by
 * itself: none takes others with it.
 */
export class CommitQueue {
  readonly #connection: DatabaseSync;
  readonly #sync: () => Promise<void>;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  #waiting: Change[] = [];
  #isScheduled = false;
  /** What the last durable commit waits for, null when that is over. */
  #onDisk: Promise<void> | null = null;

  /**
   * @param connection whose commits do not wait for the disk
   * @param sync resolves when everything that was committed until now is on the disk
   */
  constructor(connection: DatabaseSync, sync: () => Promise<void>) {
    this.#connection = connection;
    this.#sync = sync;
    this.#begin = connection.prepare('BEGIN IMMEDIATE');
    this.#commit = connection.prepare('COMMIT');
  }

  /** Rejects with what `task` throws, and when the disk does not take a durable change: that one is made, but may not last. */
  add<T>(task: () => T, durability: Durability): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const run = () => {
      const result = task();
      return (onDisk: Promise<void> | null) => {
        if (onDisk === null) resolve(result);
        else onDisk.then(() => resolve(result), reject);
      };
    };
    this.#waiting.push({ durability, run, reject });
    // While the disk is busy one more that has to wait for it loses nothing by being committed with those that come yet.
    if (!(durability === 'durable' && this.#onDisk !== null)) this.#flushSoon();
    return promise;
  }

  #flushSoon(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.flush());
  }

  /** Commits now what waits. */
  flush(): void {
    this.#isScheduled = false;
    const changes = this.#waiting;
    this.#waiting = [];
    if (changes.length > 1 && this.#commitTogether(changes)) return;
    for (const change of changes) this.#commitAlone(change);
  }

  /** False when nothing of it was done. */
  #commitTogether(changes: readonly Change[]): boolean {
    try {
      this.#transact(changes);
      return true;
    } catch {
      // Who it was, and why, is found out when each is tried by itself.
      return false;
    }
  }

  #commitAlone(change: Change): void {
    try {
      this.#transact([change]);
    } catch (error) {
      change.reject(error);
    }
  }

  #transact(changes: readonly Change[]): void {
    const outcomes: ReturnType<Change['run']>[] = [];
    this.#begin.run();
    try {
      for (const change of changes) outcomes.push(change.run());
      this.#commit.run();
    } catch (error) {
      // A full disk, for one, may have ended the transaction.
      if (this.#connection.isTransaction) this.#connection.exec('ROLLBACK');
      throw error;
    }
    const onDisk = changes.some(({ durability }) => durability === 'durable') ? this.#wait() : null;
    for (const [n, tell] of outcomes.entries()) tell(changes[n]?.durability === 'durable' ? onDisk : null);
  }

  #wait(): Promise<void> {
    const onDisk = this.#sync();
    this.#onDisk = onDisk;
    const over = () => {
      if (this.#onDisk !== onDisk) return;
      this.#onDisk = null;
      if (this.#waiting.length > 0) this.#flushSoon();
    };
    onDisk.then(over, over);
    return onDisk;
  }
}
