import { DecodeError } from './decode-error.ts';
import { maxDepth, maxElements } from './limits.ts';
import { type AnyMessage, defaultOf, emptyMessage, type Field, type MessageType, type ScalarType } from './message.ts';

/** The protobuf encoding (proto3) of the message types that `message.ts` describes. */

const varint = 0;
const fixed64 = 1;
const lengthDelimited = 2;
const startGroup = 3;
const endGroup = 4;
const fixed32 = 5;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Fields of a message type by number. */
const byNumber = new WeakMap<MessageType, ReadonlyMap<number, readonly [name: string, field: Field]>>();

function fieldsOf(type: MessageType): ReadonlyMap<number, readonly [string, Field]> {
  let fields = byNumber.get(type);
  if (!fields) {
    fields = new Map(Object.entries(type.fields).map((entry) => [entry[1].number, entry]));
    byNumber.set(type, fields);
  }
  return fields;
}

/**
 * Reads protobuf bytes as a message. Unknown fields are skipped; of a scalar that occurs more than once the last counts,
 * messages that occur more than once are merged.
 * @throws {DecodeError}
 */
export function readBinary(type: MessageType, bytes: Uint8Array): AnyMessage {
  const values = emptyMessage(type);
  mergeMessage(type, new Reader(bytes), values, 0);
  return values;
}

function mergeMessage(type: MessageType, reader: Reader, values: Record<string, unknown>, depth: number): void {
  if (depth > maxDepth) throw new DecodeError(`${type.name}: nested too deep`);
  const fields = fieldsOf(type);
  while (!reader.done) {
    const tag = reader.tag();
    const known = fields.get(tag.number);
    if (known) mergeField(known, tag.wire, reader, values, depth);
    else reader.skip(tag);
  }
}

function mergeField(
  [name, field]: readonly [string, Field],
  wire: number,
  reader: Reader,
  values: Record<string, unknown>,
  depth: number,
): void {
  const { type } = field;
  if (field.label === 'repeated') {
    const list = values[name] as unknown[];
    if (wire === lengthDelimited && isNumeric(type)) {
      const packed = new Reader(reader.bytes());
      while (!packed.done) push(list, readScalar(type, varint, packed, name), name);
    } else push(list, readValue(type, wire, reader, name, null, depth), name);
  } else values[name] = readValue(type, wire, reader, name, values[name], depth);
}

function push(list: unknown[], value: unknown, name: string): void {
  if (list.length >= maxElements) throw new DecodeError(`${name}: more than ${maxElements} elements`);
  list.push(value);
}

function readValue(
  type: ScalarType | MessageType,
  wire: number,
  reader: Reader,
  name: string,
  before: unknown,
  depth: number,
): unknown {
  if (typeof type === 'string') return readScalar(type, wire, reader, name);
  if (wire !== lengthDelimited) throw new DecodeError(`${name}: wrong wire type`);
  const values = (before as Record<string, unknown> | null) ?? emptyMessage(type);
  mergeMessage(type, new Reader(reader.bytes()), values, depth + 1);
  return values;
}

function readScalar(type: ScalarType, wire: number, reader: Reader, name: string): unknown {
  if (wire !== (isNumeric(type) ? varint : lengthDelimited)) throw new DecodeError(`${name}: wrong wire type`);
  switch (type) {
    case 'string':
      return reader.text(name);
    case 'bytes':
      return Uint8Array.from(reader.bytes());
    case 'bool':
      return reader.varint() !== 0n;
    case 'uint32':
      return Number(BigInt.asUintN(32, reader.varint()));
    case 'uint64':
      return reader.varint();
    case 'int64':
      return BigInt.asIntN(64, reader.varint());
  }
}

function isNumeric(type: ScalarType | MessageType): type is 'bool' | 'uint32' | 'uint64' | 'int64' {
  return type === 'bool' || type === 'uint32' || type === 'uint64' || type === 'int64';
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length;
  }

  varint(): bigint {
    let low = 0;
    let value = 0n;
    for (let n = 0; n < 10; n++) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined) throw new DecodeError('the message is cut off');
      // Most are one to four bytes: those need no big integers on the way.
      if (n < 4) low |= (byte & 0x7f) << (7 * n);
      else value |= BigInt(byte & 0x7f) << BigInt(7 * n);
      if (byte < 0x80) return BigInt.asUintN(64, value | BigInt(low));
    }
    throw new DecodeError('a number is too long');
  }

  tag(): { readonly number: number; readonly wire: number } {
    const value = this.varint();
    if (value > 0xffff_ffffn || value < 8n) throw new DecodeError('invalid field number');
    return { number: Number(value >> 3n), wire: Number(value & 7n) };
  }

  bytes(): Uint8Array {
    return this.#take(this.varint());
  }

  text(name: string): string {
    try {
      return utf8.decode(this.bytes());
    } catch (error) {
      throw error instanceof DecodeError ? error : new DecodeError(`${name}: not UTF-8`);
    }
  }

  skip(tag: { readonly number: number; readonly wire: number }, depth = 0): void {
    if (tag.wire === varint) this.varint();
    else if (tag.wire === fixed64) this.#take(8n);
    else if (tag.wire === lengthDelimited) this.bytes();
    else if (tag.wire === fixed32) this.#take(4n);
    else if (tag.wire === startGroup && depth < maxDepth) {
      for (;;) {
        const inner = this.tag();
        if (inner.wire === endGroup && inner.number === tag.number) return;
        this.skip(inner, depth + 1);
      }
    } else throw new DecodeError('invalid wire type');
  }

  #take(length: bigint): Uint8Array {
    if (length > BigInt(this.#bytes.length - this.#at)) throw new DecodeError('the message is cut off');
    const start = this.#at;
    this.#at += Number(length);
    return this.#bytes.subarray(start, this.#at);
  }
}

/** A message as protobuf bytes, fields in the order of the description; what is at its default is left out. */
export function writeBinary(type: MessageType, value: AnyMessage): Buffer {
  const parts: Uint8Array[] = [];
  for (const [name, field] of Object.entries(type.fields)) writeField(field, value[name], parts);
  return Buffer.concat(parts);
}

function writeField(field: Field, value: unknown, parts: Uint8Array[]): void {
  const { number, type, label } = field;
  if (label === 'repeated') {
    const list = value as unknown[];
    if (list.length === 0) return;
    if (isNumeric(type)) {
      const packed = Buffer.concat(list.map((each) => writeVarint(toVarint(each))));
      parts.push(writeTag(number, lengthDelimited), writeVarint(BigInt(packed.length)), packed);
    } else for (const each of list) writeValue(number, type, each, parts);
  } else if (value !== null && (label === 'optional' || !isDefault(field, value)))
    writeValue(number, type, value, parts);
}

function isDefault(field: Field, value: unknown): boolean {
  return field.type === 'bytes' ? (value as Uint8Array).length === 0 : value === defaultOf(field);
}

function writeValue(number: number, type: ScalarType | MessageType, value: unknown, parts: Uint8Array[]): void {
  if (isNumeric(type)) {
    parts.push(writeTag(number, varint), writeVarint(toVarint(value)));
    return;
  }
  const bytes =
    typeof type !== 'string'
      ? writeBinary(type, value as AnyMessage)
      : type === 'string'
        ? Buffer.from(value as string, 'utf8')
        : (value as Uint8Array);
  parts.push(writeTag(number, lengthDelimited), writeVarint(BigInt(bytes.length)), bytes);
}

function toVarint(value: unknown): bigint {
  return BigInt.asUintN(64, BigInt(value as bigint | number | boolean));
}

function writeTag(number: number, wire: number): Uint8Array {
  return writeVarint((BigInt(number) << 3n) | BigInt(wire));
}

function writeVarint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
