/**
 * A program's structured result travels at the side of its standard error, in one frame that only the runner can write
 * because it holds a random marker:
 *
 *     <marker> <8 hex digits: payload bytes> <payload>
 *
 * The payload is the JSON of the result, a newline, and the JSON of the error; either may be empty for "none". JSON as
 * the runners print it holds no newline. Everything else on the stream is the program's own standard error.
 */

import { randomBytes } from 'node:crypto';
import type { StreamFilter } from './output.ts';

const lengthDigits = 8;

/** 35 bytes that no program writes by chance. */
export function newMarker(): string {
  return `\x1erds${randomBytes(15).toString('hex')}\x1f`;
}

export interface ProgramResult {
  /** JSON text exactly as the program's runner wrote it, known to parse; null when there is none. */
  readonly result: string | null;
  readonly error: string | null;
}

const none: ProgramResult = { result: null, error: null };
const unreadable: ProgramResult = {
  result: null,
  error: JSON.stringify({ name: 'Error', message: 'The result of the program could not be read' }),
};

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Takes the frame out of a stream of chunks and keeps the rest. Holds at most `maxPayload` bytes. */
export class ResultFrameReader implements StreamFilter {
  readonly #marker: Buffer;
  readonly #maxPayload: number;
  #pending: Buffer = Buffer.alloc(0);
  /** Bytes of payload still to come; null while no frame has begun. */
  #missing: number | null = null;
  readonly #payload: Buffer[] = [];
  #broken = false;

  constructor(marker: string, maxPayload: number) {
    this.#marker = Buffer.from(marker);
    this.#maxPayload = maxPayload;
  }

  push(chunk: Buffer, keep: (chunk: Buffer) => void): void {
    if (this.#missing !== null) this.#collect(chunk, keep);
    else this.#search(this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]), keep);
  }

  end(keep: (chunk: Buffer) => void): void {
    keep(this.#pending);
    this.#pending = Buffer.alloc(0);
  }

  /** What the frame said, once the stream has ended. */
  result(): ProgramResult {
    if (this.#missing === null) return none;
    if (this.#broken || this.#missing > 0) return unreadable;
    return parsePayload(Buffer.concat(this.#payload).toString('utf8'));
  }

  #search(data: Buffer, keep: (chunk: Buffer) => void): void {
    const start = data.indexOf(this.#marker);
    if (start < 0) {
      // The end of the data may be the beginning of a marker.
      const partial = data.lastIndexOf(this.#marker[0]!, data.length - 1);
      const held = partial >= 0 && data.length - partial < this.#marker.length ? data.length - partial : 0;
      keep(data.subarray(0, data.length - held));
      this.#pending = data.subarray(data.length - held);
      return;
    }
    const header = start + this.#marker.length + lengthDigits;
    keep(data.subarray(0, start));
    if (data.length < header) {
      this.#pending = data.subarray(start);
      return;
    }
    const digits = data.toString('latin1', header - lengthDigits, header);
    const length = /^[0-9a-f]{8}$/.test(digits) ? Number.parseInt(digits, 16) : Number.NaN;
    this.#pending = Buffer.alloc(0);
    this.#broken = !(length <= this.#maxPayload);
    this.#missing = this.#broken ? 0 : length;
    this.#collect(data.subarray(header), keep);
  }

  #collect(data: Buffer, keep: (chunk: Buffer) => void): void {
    const missing = this.#missing ?? 0;
    const mine = data.subarray(0, missing);
    if (mine.length > 0) this.#payload.push(mine);
    this.#missing = missing - mine.length;
    // Timers of the program may go on writing after the frame.
    keep(data.subarray(mine.length));
  }
}

function parsePayload(payload: string): ProgramResult {
  const newline = payload.indexOf('\n');
  if (newline < 0) return unreadable;
  const result = payload.slice(0, newline);
  const error = payload.slice(newline + 1);
  if ((result !== '' && !isJson(result)) || (error !== '' && !isJson(error))) return unreadable;
  return { result: result === '' ? null : result, error: error === '' ? null : error };
}
