/** Milliseconds after a use until the next one is started, so that it is not in the way of whoever was served. */
const refillMs = 100;

export interface StandbyOptions<T> {
  /** Starts one. While it waits it may not keep this process from ending. */
  readonly start: () => T | Promise<T>;
  readonly hasEnded: (one: T) => boolean;
  /** Lets one go that nobody will use. */
  readonly dismiss: (one: T) => void;
}

/**
 * Keeps one of something, most often a process, started and waiting: what it takes to start it is no part of what it is
 * used for. Each is used once. The first is started for the first use; one stands by from then on.
 */
export class Standby<T> {
  readonly #options: StandbyOptions<T>;
  #waiting: { readonly one: T } | null = null;
  #refill: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(options: StandbyOptions<T>) {
    this.#options = options;
  }

  /** The one that stands by, or one that is started now: also once closed, when none is kept any more. */
  async take(): Promise<T> {
    const waiting = this.#remove();
    this.#refillSoon();
    if (waiting !== null && !this.#options.hasEnded(waiting.one)) return waiting.one;
    return this.#options.start();
  }

  close(): void {
    this.#isClosed = true;
    if (this.#refill !== null) clearTimeout(this.#refill);
    const waiting = this.#remove();
    if (waiting !== null) this.#options.dismiss(waiting.one);
  }

  #remove(): { readonly one: T } | null {
    const waiting = this.#waiting;
    this.#waiting = null;
    return waiting;
  }

  #refillSoon(): void {
    if (this.#isClosed) return;
    this.#refill ??= setTimeout(() => {
      this.#refill = null;
      if (this.#waiting === null) void this.#keepOne();
    }, refillMs).unref();
  }

  async #keepOne(): Promise<void> {
    let one: T;
    try {
      one = await this.#options.start();
    } catch {
      // Without one the next use starts its own, and meets what is wrong.
      return;
    }
    if (this.#isClosed || this.#waiting !== null) this.#options.dismiss(one);
    else this.#waiting = { one };
  }
}
