import { Transform, type TransformCallback } from 'node:stream';

export type LogChannel = 'stdin' | 'stdout' | 'stderr' | 'console';

/** A piece of a container's output. */
export interface LogPiece {
  readonly channel: LogChannel;
  readonly bytes: Buffer;
}

const channels: readonly LogChannel[] = ['stdin', 'stdout', 'stderr'];
const headerBytes = 8;
/** Docker cuts lines at 16 KiB; a frame that says more than this is none. */
const maxFrameBytes = 1024 * 1024;

/**
 * Takes Docker's stream apart: frames of channel (1 byte), three zero bytes, length (u32, big endian) and content. Gives
 * {@link LogPiece}s. The stream of a container with a terminal has no frames.
 */
export class LogFrames extends Transform {
  readonly #tty: boolean;
  #rest: Buffer = Buffer.alloc(0);

  constructor(tty: boolean) {
    super({ readableObjectMode: true });
    this.#tty = tty;
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    if (this.#tty) {
      done(null, { channel: 'console', bytes: chunk } satisfies LogPiece);
      return;
    }
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    while (this.#rest.length >= headerBytes) {
      const length = this.#rest.readUInt32BE(4);
      const channel = channels[this.#rest[0]!];
      if (channel === undefined || length > maxFrameBytes) {
        done(new Error('the log stream has a frame that cannot be'));
        return;
      }
      if (this.#rest.length < headerBytes + length) break;
      this.push({ channel, bytes: this.#rest.subarray(headerBytes, headerBytes + length) } satisfies LogPiece);
      this.#rest = this.#rest.subarray(headerBytes + length);
    }
    done();
  }
}
