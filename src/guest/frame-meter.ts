/**
 * Weighs the HTTP/2 frames a guest sends before Node looks at them. Frames that carry nothing (resets, settings, pings,
 * window updates, interim headers, empty data) cost the host work and the guest none, so there may be only as many as the
 * host's own requests explain, and a few more. Frames with little data are a slow program's; there is just a pace for them.
 */

const headerBytes = 9;
const frameType = { data: 0 } as const;

/** Frames without content: so many at once, so many a second; and what the host's own doing explains. */
const burst = 2000;
const perSecond = 200;
const perRequest = 8;
const perSentBytes = 1 / (16 * 1024);

/** Data frames smaller than this count towards the pace: so many at once, and a second. */
const smallBytes = 4096;
const smallBurst = 10_000;
const smallPerSecond = 10_000;

export class FrameMeter {
  readonly #now: () => number;
  #at: number;
  /** Frames without content the guest may still send. */
  #allowance = burst;
  /** Small data frames the guest may still send without being held up. */
  #pace = smallBurst;
  readonly #header = Buffer.alloc(headerBytes);
  /** Bytes of the header that are there. */
  #headerAt = 0;
  /** Bytes of the frame's content that are still to come. */
  #left = 0;

  /** `now` tells milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#at = now();
  }

  /** A request of the host's will be answered. */
  expectAnswer(): void {
    this.#allowance += perRequest;
  }

  /** The host sends so many bytes, for which the guest opens its window again. */
  sent(bytes: number): void {
    this.#allowance += bytes * perSentBytes;
  }

  /**
   * Takes what has come; frames may be split at any byte. Returns the milliseconds to wait before more is read, or null
   * when the guest floods.
   */
  push(chunk: Buffer): number | null {
    this.#refill();
    for (let at = 0; at < chunk.length; ) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, chunk.length - at);
        this.#left -= skipped;
        at += skipped;
        continue;
      }
      const copied = chunk.copy(this.#header, this.#headerAt, at);
      at += copied;
      this.#headerAt += copied;
      if (this.#headerAt < headerBytes) break;
      this.#headerAt = 0;
      this.#left = this.#header.readUIntBE(0, 3);
      this.#count(this.#header[3] === frameType.data ? this.#left : 0);
    }
    if (this.#allowance < 0) return null;
    return this.#pace >= 0 ? 0 : Math.ceil((-this.#pace / smallPerSecond) * 1000);
  }

  #count(dataBytes: number): void {
    if (dataBytes === 0) this.#allowance--;
    else if (dataBytes < smallBytes) this.#pace--;
  }

  #refill(): void {
    const now = this.#now();
    const seconds = (now - this.#at) / 1000;
    this.#at = now;
    // What the host's own doing explains may be more than a burst; it is not taken away.
    this.#allowance = Math.max(this.#allowance, Math.min(burst, this.#allowance + seconds * perSecond));
    this.#pace = Math.min(smallBurst, this.#pace + seconds * smallPerSecond);
  }
}
