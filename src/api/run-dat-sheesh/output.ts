import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';

/**
 * Keeps the first `limit` bytes of a stream and lets the rest flow by, so that the writer is never blocked.
 * A character that the limit cuts through is left out; bytes that are not UTF-8 become U+FFFD.
 */
export class OutputCollector {
  readonly #limit: number;
  readonly #chunks: Buffer[] = [];
  #size = 0;
  #truncated = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  push(chunk: Buffer): void {
    const room = this.#limit - this.#size;
    if (chunk.length > room) this.#truncated = true;
    if (room <= 0 || chunk.length === 0) return;
    const kept = chunk.length > room ? chunk.subarray(0, room) : chunk;
    this.#chunks.push(kept);
    this.#size += kept.length;
  }

  get truncated(): boolean {
    return this.#truncated;
  }

  text(): string {
    const decoder = new StringDecoder('utf8');
    const text = decoder.write(Buffer.concat(this.#chunks));
    return this.#truncated ? text : text + decoder.end();
  }
}

/** Feeds a guest's stream to `sink` until it ends. A broken stream is told by the command's `exit`, not here. */
export function drain(stream: Readable, sink: (chunk: Buffer) => void): void {
  stream.on('data', sink);
  stream.on('error', () => {
    // Required so that the failure does not end the process; `GuestExec.exit` rejects with the reason.
  });
}

/** Decides which bytes of a stream are kept. */
export interface StreamFilter {
  push(chunk: Buffer, keep: (chunk: Buffer) => void): void;
  /** The stream has ended: what was held back is kept or dropped now. */
  end(keep: (chunk: Buffer) => void): void;
}

/** Keeps everything. */
export const passThrough: StreamFilter = Object.freeze({
  push: (chunk: Buffer, keep: (chunk: Buffer) => void) => keep(chunk),
  end: () => {},
});
