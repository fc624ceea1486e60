import type { IncomingMessage } from 'node:http';
import { BerthError } from '../../common/errors.ts';
import { maxHeldBytes, smallBodyBytes } from './limits.ts';

/**
 * A body. What is not taken is read and dropped, since a sender that is cut off in the middle would not see the reply; how long
 * that may go on is the server's request timeout.
 *
 * @throws BerthError payload_too_large when it has more than `limit` bytes, quota_exceeded when too much is held already;
 * another Error when the sender goes away
 */
export function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const body = new HeldBody(Number(request.headers['content-length']), limit);
  // By events, and read at once: iterating over a stream, or having it flow, costs more than the rest of a small call.
  request.on('readable', () => {
    for (let chunk = request.read(); chunk !== null; chunk = request.read()) body.take(chunk);
  });
  request.on('end', () => body.finish());
  request.on('error', (error) => body.refuse(error));
  request.on('close', () => {
    if (!body.isSettled) body.refuse(new Error('the sender went away'));
  });
  return body.whole;
}

/** Bytes that those who take them share. */
class Budget {
  readonly limit: number;
  #taken = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** False, and nothing is taken, when there are not as many left. */
  take(bytes: number): boolean {
    if (this.#taken + bytes > this.limit) return false;
    this.#taken += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#taken -= bytes;
  }
}

/** For all requests of the process. */
const budget = new Budget(maxHeldBytes);

/** A body while it arrives. */
class HeldBody {
  readonly #whole = Promise.withResolvers<Buffer>();
  readonly #announced: number;
  readonly #limit: number;
  readonly #chunks: Buffer[] = [];
  #size = 0;
  /** Of the budget. */
  #held = 0;
  #isSettled = false;

  /** @param announced its length; NaN when that is not known */
  constructor(announced: number, limit: number) {
    this.#announced = announced;
    this.#limit = limit;
  }

  get whole(): Promise<Buffer> {
    return this.#whole.promise;
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  take(chunk: Buffer): void {
    if (this.#isSettled) return;
    this.#size += chunk.length;
    if (this.#size > this.#limit) this.refuse(new BerthError('payload_too_large'));
    else if (!this.#hold())
      this.refuse(new BerthError('quota_exceeded', { resource: 'request memory', limit: budget.limit }));
    else {
      this.#chunks.push(chunk);
      if (this.#size === this.#announced) this.finish();
    }
  }

  finish(): void {
    if (this.#isSettled) return;
    this.#settle();
    this.#whole.resolve(this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks));
  }

  refuse(error: Error): void {
    if (this.#isSettled) return;
    this.#settle();
    this.#chunks.length = 0;
    this.#whole.reject(error);
  }

  /** False when the budget has no room for what there is of it. */
  #hold(): boolean {
    const more = Math.max(0, this.#size - smallBodyBytes) - this.#held;
    if (!budget.take(more)) return false;
    this.#held += more;
    return true;
  }

  #settle(): void {
    this.#isSettled = true;
    budget.giveBack(this.#held);
  }
}
