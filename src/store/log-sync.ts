import { close, fdatasync, openSync } from 'node:fs';

type SyncFile = (file: number, done: (error: Error | null) => void) => void;

/**
 * Puts what was written to a file so far on the disk, without holding up the thread that asks. Those that ask while that is
 * under way are served together by the next. After one that failed none is tried any more: the kernel tells of a page that
 * it could not write once, and takes it for written from then on.
 */
export class LogSync {
  readonly #file: number;
  readonly #syncFile: SyncFile;
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;
  #failure: Error | null = null;
  #isClosed = false;
  #isReleased = false;

  /**
   * @param path a file that stays the same one for as long as this is in use
   * @param syncFile what puts an open file's content on the disk
   */
  constructor(path: string, syncFile: SyncFile = fdatasync) {
    this.#file = openSync(path, 'r');
    this.#syncFile = syncFile;
  }

  /** Rejects when the disk does not take it, or did not before. */
  sync(): Promise<void> {
    if (this.#running === null) return this.#begin();
    // What runs may have looked at the file before the caller wrote to it.
    this.#next ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#next = null;
        return this.#begin();
      });
    return this.#next;
  }

  /** Lets the file go once nobody waits any more. */
  close(): void {
    this.#isClosed = true;
    this.#release();
  }

  #begin(): Promise<void> {
    if (this.#failure !== null) return Promise.reject(this.#failure);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#running = promise;
    this.#syncFile(this.#file, (error) => {
      this.#running = null;
      this.#failure = error;
      if (error) reject(error);
      else resolve();
      this.#release();
    });
    return promise;
  }

  #release(): void {
    if (!this.#isClosed || this.#isReleased || this.#running !== null || this.#next !== null) return;
    this.#isReleased = true;
    close(this.#file);
  }
}
