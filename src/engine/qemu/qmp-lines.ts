/** Splits a byte stream into lines of bounded length. */
export class LineSplitter {
  readonly #maxBytes: number;
  #pending: Buffer[] = [];
  #pendingBytes = 0;

  /** @param maxBytes longest line accepted, without its line feed */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The lines that `chunk` completes, without line ends and empty lines. Throws RangeError when a line is too long. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(0x0a, start);
      const part = chunk.subarray(start, end === -1 ? chunk.length : end);
      this.#pendingBytes += part.length;
      if (this.#pendingBytes > this.#maxBytes) throw new RangeError(`line longer than ${this.#maxBytes} bytes`);
      this.#pending.push(part);
      if (end === -1) return lines;
      const line = Buffer.concat(this.#pending).toString('utf8').trimEnd();
      if (line !== '') lines.push(line);
      this.#pending = [];
      this.#pendingBytes = 0;
      start = end + 1;
    }
  }
}
