import { close, fdatasync, openSync } from 'node:fs';

type SyncFile = (file: number, done: (error: Error | null) => void) => void;

/**
 * Puts what was written to a file so far on the disk, without holding up the thread that asks. Those that ask while that is
 * under way are served together by the next.
 */
export class LogSync {
  readonly #path: string;
  readonly #syncFile: SyncFile;
  #file: number | null = null;
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;
  #isClosed = false;

  /**
   * @param path a file that stays the same one for as long as this is in use
   * @param syncFile what puts an open file's content on the disk
   */
  constructor(path: string, syncFile: SyncFile = fdatasync) {
    this.#path = path;
    this.#syncFile = syncFile;
  }

  /** Rejects when the disk does not take it. */
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
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#running = promise;
    try {
      this.#file ??= openSync(this.#path, 'r');
      this.#syncFile(this.#file, (error) => {
        this.#running = null;
        if (error) reject(error);
        else resolve();
        this.#release();
      });
    } catch (error) {
      this.#running = null;
      reject(error);
    }
    return promise;
  }

  #release(): void {
    if (!this.#isClosed || this.#file === null || this.#running !== null || this.#next !== null) return;
    close(this.#file);
    this.#file = null;
  }
}
