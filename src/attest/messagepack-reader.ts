import { ByteReader, FormatError } from './byte-reader.ts';

/** The first part of a value: what it is, and its length, its number of elements or, of an integer, itself. */
interface Head {
  readonly kind: 'integer' | 'text' | 'bytes' | 'array' | 'map' | 'other';
  readonly size: number;
}

const MAX_MAP_ENTRIES = 64;

/**
 * Reads MessagePack of a known shape from untrusted bytes, value by value, so that the first wrong one ends the work.
 * Throws {@link FormatError}. Format: https://github.com/msgpack/msgpack/blob/master/spec.md
 */
export class MessagePackReader extends ByteReader {
  /** An integer from 0 to `most`. */
  integer(most: number): number {
    const value = this.#expect('integer');
    if (value < 0 || value > most) throw new FormatError(`an integer is not from 0 to ${most}`);
    return value;
  }

  text(): string {
    const bytes = this.bytes(this.#expect('text'));
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      throw new FormatError('a text is not UTF-8');
    }
  }

  /** Bytes, or the same as an array of numbers. */
  byteString(most: number): Buffer {
    const { kind, size } = this.#head();
    if (kind !== 'bytes' && kind !== 'array') throw new FormatError(`there is ${kind} where bytes are wanted`);
    if (size > most) throw new FormatError(`${size} bytes are more than ${most}`);
    if (kind === 'bytes') return this.bytes(size);
    const bytes = Buffer.alloc(this.#fitting(size));
    for (let index = 0; index < size; index++) bytes[index] = this.integer(0xff);
    return bytes;
  }

  list<T>(most: number, read: () => T): T[] {
    const size = this.#expect('array');
    if (size > most) throw new FormatError(`${size} elements are more than ${most}`);
    return Array.from({ length: this.#fitting(size) }, read);
  }

  /** Reads a map by the readers of its keys; a key that has none is passed over. */
  map(readers: Readonly<Record<string, () => void>>): void {
    const size = this.#expect('map');
    if (size > MAX_MAP_ENTRIES) throw new FormatError(`a map has more than ${MAX_MAP_ENTRIES} entries`);
    const seen = new Set<string>();
    for (let index = 0; index < size; index++) {
      const key = this.text();
      if (seen.has(key)) throw new FormatError('a map has a key twice');
      seen.add(key);
      if (Object.hasOwn(readers, key)) readers[key]!();
      else this.#skip();
    }
  }

  /** Passes over one value; without recursion, whatever its depth. */
  #skip(): void {
    for (let pending = 1; pending > 0; pending--) {
      const { kind, size } = this.#head();
      if (kind === 'array') pending += this.#fitting(size);
      else if (kind === 'map') pending += this.#fitting(2 * size);
      else if (kind === 'text' || kind === 'bytes') this.bytes(size);
    }
  }

  #expect(wanted: Head['kind']): number {
    const { kind, size } = this.#head();
    if (kind !== wanted) throw new FormatError(`there is ${kind} where ${wanted} is wanted`);
    return size;
  }

  /** Every element has one byte at the least. */
  #fitting(elements: number): number {
    if (elements > this.remaining) throw new FormatError('there are more elements than bytes');
    return elements;
  }

  #head(): Head {
    const first = this.u8();
    if (first < 0x80) return { kind: 'integer', size: first };
    if (first < 0x90) return { kind: 'map', size: first & 0xf };
    if (first < 0xa0) return { kind: 'array', size: first & 0xf };
    if (first < 0xc0) return { kind: 'text', size: first & 0x1f };
    if (first >= 0xe0) return { kind: 'integer', size: first - 0x100 };
    return this.#wideHead(first);
  }

  #wideHead(first: number): Head {
    switch (first) {
      case 0xc0:
      case 0xc2:
      case 0xc3:
        return { kind: 'other', size: 0 };
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return { kind: 'bytes', size: this.#unsigned(first - 0xc4) };
      case 0xca:
      case 0xcb:
        this.bytes(first === 0xca ? 4 : 8);
        return { kind: 'other', size: 0 };
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return { kind: 'integer', size: this.#unsigned(first - 0xcc) };
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return { kind: 'integer', size: this.#signed(first - 0xd0) };
      case 0xd9:
      case 0xda:
      case 0xdb:
        return { kind: 'text', size: this.#unsigned(first - 0xd9) };
      case 0xdc:
      case 0xdd:
        return { kind: 'array', size: this.#unsigned(first - 0xdb) };
      case 0xde:
      case 0xdf:
        return { kind: 'map', size: this.#unsigned(first - 0xdd) };
      default:
        // Extensions, and the byte that is never used.
        throw new FormatError(`a value of type ${first} is not read`);
    }
  }

  /** An unsigned number of 2^`power` bytes; of eight bytes only about, where nothing that is read goes. */
  #unsigned(power: number): number {
    const bytes = this.bytes(2 ** power);
    return power === 3 ? Number(bytes.readBigUInt64BE()) : bytes.readUIntBE(0, bytes.length);
  }

  #signed(power: number): number {
    const bytes = this.bytes(2 ** power);
    return power === 3 ? Number(bytes.readBigInt64BE()) : bytes.readIntBE(0, bytes.length);
  }
}
