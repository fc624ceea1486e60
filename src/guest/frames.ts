import { FRAME_HEADER_BYTES, frame } from './protocol.ts';

/** Longest payload of a frame that is neither output stream's. */
const MAX_CONTROL_BYTES = 4096;

/**
 * Takes apart the frames of an exec's output. Payloads of stdout and stderr are handed on in pieces as they arrive, others
 * whole. Throws RangeError for what no guest-init sends.
 */
export class FrameReader {
  readonly #onFrame: (type: number, payload: Buffer) => void;
  #header: Buffer = Buffer.alloc(0);
  #payload: Buffer[] = [];
  #left = 0;

  constructor(onFrame: (type: number, payload: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  push(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0)
      rest = this.#header.length < FRAME_HEADER_BYTES ? this.#takeHeader(rest) : this.#takePayload(rest);
  }

  get #type(): number {
    return this.#header.readUInt8(0);
  }

  get #streamed(): boolean {
    return this.#type === frame.stdout || this.#type === frame.stderr;
  }

  #takeHeader(bytes: Buffer): Buffer {
    const count = FRAME_HEADER_BYTES - this.#header.length;
    this.#header = Buffer.concat([this.#header, bytes.subarray(0, count)]);
    if (this.#header.length === FRAME_HEADER_BYTES) {
      this.#left = this.#header.readUInt32BE(1);
      if (!this.#streamed && this.#left > MAX_CONTROL_BYTES) throw new RangeError('frame is too long');
      if (this.#left === 0) this.#endFrame();
    }
    return bytes.subarray(count);
  }

  #takePayload(bytes: Buffer): Buffer {
    const part = bytes.subarray(0, this.#left);
    this.#left -= part.length;
    if (this.#streamed) this.#onFrame(this.#type, part);
    else this.#payload.push(part);
    if (this.#left === 0) this.#endFrame();
    return bytes.subarray(part.length);
  }

  #endFrame(): void {
    const type = this.#type;
    const streamed = this.#streamed;
    const payload = Buffer.concat(this.#payload);
    this.#header = Buffer.alloc(0);
    this.#payload = [];
    if (!streamed) this.#onFrame(type, payload);
  }
}
