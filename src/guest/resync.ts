/**
 * The resync marker that begins every session, and the stuffing that keeps client data from passing for one.
 * The guest's side, with the reasoning, is guest-init/src/resync.h.
 */

import { randomBytes } from 'node:crypto';

/** The first byte occurs in it only once. */
export const MAGIC = Buffer.from('be5254487e53594e437e8d1fc4a6730a', 'hex');
const STUFF = Buffer.from([0x00]);
const MARK = Buffer.from([0x01]);
const ECHO = Buffer.from([0x02]);
const NONCE_BYTES = 16;

/** ASCII, so that it cannot hold the magic's first byte. */
export function makeNonce(): Buffer {
  return Buffer.from(randomBytes(NONCE_BYTES).toString('hex'), 'latin1');
}

export function marker(nonce: Buffer): Buffer {
  return Buffer.concat([MAGIC, MARK, nonce]);
}

/** What the guest answers a marker with. */
export function echo(nonce: Buffer): Buffer {
  return Buffer.concat([MAGIC, ECHO, nonce]);
}

/** Puts a stuffing byte behind every magic in a byte stream, wherever the stream is cut into chunks. */
export class Stuffer {
  /** How many bytes of a magic the stream ends with so far. */
  #matched = 0;

  /** The chunk as it must be sent: itself, unless it completes a magic. */
  push(chunk: Buffer): readonly Buffer[] {
    const parts: Buffer[] = [];
    let sent = 0;
    let at = 0;
    while (this.#matched > 0 && at < chunk.length) {
      if (chunk[at] !== MAGIC[this.#matched]) {
        this.#matched = 0;
        break;
      }
      at++;
      if (++this.#matched === MAGIC.length) {
        parts.push(chunk.subarray(sent, at), STUFF);
        sent = at;
        this.#matched = 0;
      }
    }
    if (this.#matched > 0) return [chunk];
    for (let found = chunk.indexOf(MAGIC, at); found >= 0; found = chunk.indexOf(MAGIC, at)) {
      at = found + MAGIC.length;
      parts.push(chunk.subarray(sent, at), STUFF);
      sent = at;
    }
    this.#matched = partialMagic(chunk.subarray(at));
    if (sent < chunk.length) parts.push(chunk.subarray(sent));
    return parts;
  }
}

/** Length of the longest beginning of a magic that the bytes end with. */
function partialMagic(bytes: Buffer): number {
  const tail = bytes.subarray(Math.max(0, bytes.length - MAGIC.length + 1));
  const start = tail.lastIndexOf(MAGIC[0]!);
  if (start < 0) return 0;
  const candidate = tail.subarray(start);
  return MAGIC.subarray(0, candidate.length).equals(candidate) ? candidate.length : 0;
}

/** Looks for a byte string in chunks and hands back what follows it. */
export class Seeker {
  readonly #wanted: Buffer;
  #tail: Buffer = Buffer.alloc(0);

  constructor(wanted: Buffer) {
    this.#wanted = wanted;
  }

  /** Null until the string is complete, then the bytes behind it. Memory use is bounded by the chunk. */
  push(chunk: Buffer): Buffer | null {
    const bytes = Buffer.concat([this.#tail, chunk]);
    const found = bytes.indexOf(this.#wanted);
    if (found >= 0) return bytes.subarray(found + this.#wanted.length);
    this.#tail = Buffer.from(bytes.subarray(Math.max(0, bytes.length - this.#wanted.length + 1)));
    return null;
  }
}
