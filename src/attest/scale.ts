import { ByteReader, FormatError } from './byte-reader.ts';

/**
 * SCALE (simple concatenated aggregate little-endian), the encoding of attestations of version 0 and of certificate
 * requests. Fields follow one another; what they are is known from where they stand.
 */
export class ScaleWriter {
  readonly #parts: Buffer[] = [];

  u8(number: number): this {
    return this.raw(Buffer.of(number));
  }

  boolean(truth: boolean): this {
    return this.u8(truth ? 1 : 0);
  }

  u32(number: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(number);
    return this.raw(bytes);
  }

  u64(number: number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(number));
    return this.raw(bytes);
  }

  /** A length in compact form, as vectors and texts have it. */
  length(length: number): this {
    if (length < 2 ** 6) return this.u8(length << 2);
    if (length < 2 ** 14) return this.raw(Buffer.of(((length << 2) & 0xff) | 1, length >> 6));
    if (length < 2 ** 30) return this.u32(length * 4 + 2);
    throw new RangeError('too long for SCALE here');
  }

  /** Bytes with their length. */
  bytes(bytes: Uint8Array): this {
    return this.length(bytes.length).raw(bytes);
  }

  text(text: string): this {
    return this.bytes(Buffer.from(text));
  }

  list<T>(items: readonly T[], write: (item: T) => void): this {
    this.length(items.length);
    for (const item of items) write(item);
    return this;
  }

  optional<T>(item: T | undefined, write: (item: T) => void): this {
    this.boolean(item !== undefined);
    if (item !== undefined) write(item);
    return this;
  }

  /** Bytes of a length that the reader knows. */
  raw(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes));
    return this;
  }

  encode(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Reads what {@link ScaleWriter} writes, from untrusted bytes. Throws {@link FormatError}. */
export class ScaleReader extends ByteReader {
  boolean(): boolean {
    const byte = this.u8();
    if (byte > 1) throw new FormatError(`${byte} is not a boolean`);
    return byte === 1;
  }

  length(): number {
    const first = this.u8();
    const [length, least] = this.#compact(first);
    if (length < least) throw new FormatError('a length is not in its shortest form');
    return length;
  }

  #compact(first: number): [length: number, least: number] {
    switch (first & 3) {
      case 0:
        return [first >> 2, 0];
      case 1:
        return [(first >> 2) | (this.u8() << 6), 2 ** 6];
      case 2:
        return [(first + this.u8() * 2 ** 8 + this.u16le() * 2 ** 16 - 2) / 4, 2 ** 14];
      default:
        throw new FormatError('a length is too large');
    }
  }

  lengthAndBytes(): Buffer {
    return this.bytes(this.length());
  }

  text(): string {
    const bytes = this.lengthAndBytes();
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new FormatError('a text is not UTF-8');
    }
  }

  /**
   * A list that cannot fit is refused before it is read.
   *
   * @param least bytes that an item has at the least
   * @param most items
   */
  list<T>({ least, most }: { readonly least: number; readonly most: number }, read: () => T): T[] {
    const length = this.length();
    if (length > most) throw new FormatError(`a list has more than ${most} items`);
    if (length * least > this.remaining) throw new FormatError('a list is longer than its bytes');
    return Array.from({ length }, read);
  }

  optional<T>(read: () => T): T | undefined {
    return this.boolean() ? read() : undefined;
  }
}
