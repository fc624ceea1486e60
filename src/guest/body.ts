/** A stream of an operation as its caller sees it: whole, or ended by a BerthError. */

import { type ClientHttp2Stream, constants } from 'node:http2';
import { Duplex } from 'node:stream';

import { streamFailure } from './session.ts';

export class GuestBody extends Duplex {
  readonly #stream: ClientHttp2Stream;
  #ended = false;

  constructor(stream: ClientHttp2Stream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) stream.pause();
    });
    stream.on('end', () => {
      this.#ended = true;
      // A reset also ends the readable side: only a close without a code tells a whole body from a broken one.
      if (this.#isClean() && !stream.destroyed) this.#endOnceSettled();
    });
    stream.on('close', () => {
      if (this.#ended && this.#isClean()) this.push(null);
      else this.destroy(streamFailure(stream));
    });
  }

  #isClean(): boolean {
    return this.#stream.rstCode === constants.NGHTTP2_NO_ERROR && !this.#stream.aborted;
  }

  /** While the caller may still write the stream does not close, yet the guest's end must be seen. */
  #endOnceSettled(): void {
    setImmediate(() => {
      if (!this.#stream.closed && this.#isClean()) this.push(null);
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
    if (!this.#stream.closed) this.#stream.close(constants.NGHTTP2_CANCEL);
    done(error);
  }
}
