/**
 * Distinguished Encoding Rules (X.690), as much of it as certificates need. Values are written and read as whole buffers:
 * tag, length, content.
 */

/** Tags that the formats here use. */
export const tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** A value of any tag over the concatenation of `parts`. */
function value(valueTag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(valueTag), encodedLength(content.length), content]);
}

export function sequence(...parts: Uint8Array[]): Buffer {
  return value(tag.sequence, ...parts);
}

/** A SET of one element; more would have to be sorted. */
export function setOf(element: Uint8Array): Buffer {
  return value(tag.set, element);
}

/** A non-negative INTEGER, from a number or big-endian bytes. */
export function integer(number: number | Uint8Array): Buffer {
  return value(tag.integer, unsigned(number));
}

export function enumerated(number: number): Buffer {
  return value(tag.enumerated, unsigned(number));
}

export function boolean(truth: boolean): Buffer {
  return value(tag.boolean, Buffer.of(truth ? 0xff : 0));
}

export function octetString(content: Uint8Array): Buffer {
  return value(tag.octetString, content);
}

/** A BIT STRING of whole bytes, or one that leaves `unusedBits` of the last byte out. */
export function bitString(content: Uint8Array, unusedBits = 0): Buffer {
  return value(tag.bitString, Buffer.of(unusedBits), content);
}

export function utf8String(text: string): Buffer {
  return value(tag.utf8String, Buffer.from(text));
}

/** An OBJECT IDENTIFIER from its dotted form. */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return value(tag.oid, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

/** A constructed context-specific value, `[number]`, as EXPLICIT tags and IMPLICIT ones of constructed types are. */
export function context(number: number, ...parts: Uint8Array[]): Buffer {
  return value(0xa0 | number, ...parts);
}

/** A primitive context-specific value: an IMPLICIT tag of a string type. */
export function contextPrimitive(number: number, content: Uint8Array): Buffer {
  return value(0x80 | number, content);
}

/** UTCTime from 1950 to 2049 and GeneralizedTime otherwise, as RFC 5280 wants, in whole seconds. */
export function time(date: Date): Buffer {
  const text = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  const year = date.getUTCFullYear();
  if (year < 1950 || year > 2049) return value(tag.generalizedTime, Buffer.from(text));
  return value(tag.utcTime, Buffer.from(text.slice(2)));
}

function encodedLength(length: number): Buffer {
  if (length < 0x80) return Buffer.of(length);
  const bytes = unsignedBytes(length);
  return Buffer.of(0x80 | bytes.length, ...bytes);
}

function unsignedBytes(number: number): number[] {
  const bytes: number[] = [];
  for (let rest = number; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return bytes;
}

function unsigned(number: number | Uint8Array): Buffer {
  const bytes = typeof number === 'number' ? Buffer.from(unsignedBytes(number)) : Buffer.from(number);
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const shortest = bytes.subarray(start);
  return shortest.length === 0 || shortest[0]! >= 0x80 ? Buffer.concat([Buffer.of(0), shortest]) : shortest;
}

function base128(number: number): number[] {
  const bytes = [number % 128];
  for (let rest = Math.floor(number / 128); rest > 0; rest = Math.floor(rest / 128)) bytes.unshift(0x80 | (rest % 128));
  return bytes;
}

/** A value that was read: its content, and all of its bytes. */
export interface DerValue {
  readonly tag: number;
  readonly content: Buffer;
  readonly raw: Buffer;
}

/** What was read is not DER of the expected shape. */
export class DerError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'DerError';
  }
}

/** Reads values one after another from untrusted bytes. Throws {@link DerError}. */
export class DerReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** The single value that fills `bytes`. */
  static single(bytes: Uint8Array, expected?: number): DerValue {
    const reader = new DerReader(bytes);
    const read = reader.next(expected);
    reader.end();
    return read;
  }

  get done(): boolean {
    return this.#offset === this.#bytes.length;
  }

  /** Tag of the next value, or null at the end. */
  peek(): number | null {
    return this.#bytes[this.#offset] ?? null;
  }

  next(expected?: number): DerValue {
    const start = this.#offset;
    const valueTag = this.#byte();
    if (expected !== undefined && valueTag !== expected)
      throw new DerError(`tag ${valueTag} where ${expected} belongs`);
    if ((valueTag & 0x1f) === 0x1f) throw new DerError('tags of several bytes are not used here');
    const length = this.#length();
    if (length > this.#bytes.length - this.#offset) throw new DerError('a value ends past its container');
    const content = this.#bytes.subarray(this.#offset, this.#offset + length);
    this.#offset += length;
    return { tag: valueTag, content, raw: this.#bytes.subarray(start, this.#offset) };
  }

  /** The next value when it has this tag, else null and nothing is read. */
  optional(expected: number): DerValue | null {
    return this.peek() === expected ? this.next() : null;
  }

  end(): void {
    if (!this.done) throw new DerError('bytes after the last value');
  }

  #byte(): number {
    const byte = this.#bytes[this.#offset];
    if (byte === undefined) throw new DerError('a value is cut off');
    this.#offset++;
    return byte;
  }

  #length(): number {
    const first = this.#byte();
    if (first < 0x80) return first;
    const count = first & 0x7f;
    if (count === 0 || count > 4) throw new DerError('a length that DER does not have');
    let length = 0;
    for (let index = 0; index < count; index++) length = length * 256 + this.#byte();
    if (length < 0x80 || length < 256 ** (count - 1)) throw new DerError('a length that is not the shortest');
    return length;
  }
}

/** Dotted form of the content of an OBJECT IDENTIFIER. */
export function readOid(content: Uint8Array): string {
  const numbers: number[] = [];
  let number = 0;
  let open = true;
  for (const byte of content) {
    number = number * 128 + (byte & 0x7f);
    if (number > Number.MAX_SAFE_INTEGER) throw new DerError('an object identifier is too large');
    open = byte >= 0x80;
    if (open) continue;
    numbers.push(number);
    number = 0;
  }
  const [head, ...rest] = numbers;
  if (open || head === undefined) throw new DerError('an object identifier is cut off');
  const first = Math.min(2, Math.floor(head / 40));
  return [first, head - first * 40, ...rest].join('.');
}
