/** A stream of an operation as its caller sees it: whole, or ended by a BerthError. */

import type { ClientHttp2Stream } from 'node:http2';
import { Duplex } from 'node:stream';

import { cancel, endedCleanly, streamFailure } from './session.ts';

export class GuestBody extends Duplex {
  readonly #stream: ClientHttp2Stream;
  #ended = false;

  constructor(stream: ClientHttp2Stream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    // It may break off before its caller listens, who then finds it destroyed with the error.
    this.on('error', () => {});
    stream.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) stream.pause();
    });
    stream.on('end', () => {
      if (!endedCleanly(stream)) return;
      this.#ended = true;
      this.push(null);
    });
    stream.on('close', () => {
      if (!this.#ended) this.destroy(streamFailure(stream));
    });
  }

  override _read(): void {
    this.#stream.resume();
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#stream.write(chunk, encoding, done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#stream.end(done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    cancel(this.#stream);
    done(error);
  }
}
