/** What was read is shorter, longer or other than its format allows. */
export class FormatError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FormatError';
  }
}

/** Reads fields one after another from untrusted bytes. Throws {@link FormatError} at their end. */
export class ByteReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  bytes(length: number): Buffer {
    if (length > this.remaining) throw new FormatError(`${length} bytes are wanted where ${this.remaining} are left`);
    const read = this.#bytes.subarray(this.#offset, this.#offset + length);
    this.#offset += length;
    return read;
  }

  u8(): number {
    return this.bytes(1)[0]!;
  }

  u16le(): number {
    return this.bytes(2).readUInt16LE();
  }

  u16be(): number {
    return this.bytes(2).readUInt16BE();
  }

  u32le(): number {
    return this.bytes(4).readUInt32LE();
  }

  u32be(): number {
    return this.bytes(4).readUInt32BE();
  }

  u64le(): bigint {
    return this.bytes(8).readBigUInt64LE();
  }

  rest(): Buffer {
    return this.bytes(this.remaining);
  }

  end(): void {
    if (this.remaining > 0) throw new FormatError(`${this.remaining} bytes follow the last field`);
  }
}
