/** How much there is in a message, found before it is taken apart: an element costs far more than the bytes it comes in. */

import { type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

/**
 * Most fields, items and entries of a message together, at any depth. The largest configuration that is not refused for its
 * devices, name servers and labels has some hundreds, so that option maps kept without effect have room as well.
 */
export const maxElements = 4096;

const tooMany = `more than ${maxElements} elements`;
const openBrace = 0x7b;
const openBracket = 0x5b;
const comma = 0x2c;
const quote = 0x22;
const backslash = 0x5c;

/** Throws for JSON of more than {@link maxElements}. Each follows an opening bracket or a comma that is in no text. */
export function requireFewInJson(text: string): void {
  let count = 0;
  let isInText = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (isInText && code === backslash) at++;
    else if (code === quote) isInText = !isInText;
    else if (!isInText && (code === comma || code === openBrace || code === openBracket) && ++count > maxElements)
      throw new Error(tooMany);
  }
}

/**
 * Throws for a binary message of more than {@link maxElements}, and for one whose fields have other wire types than theirs or
 * reach beyond the message they are in: the library would read on in the middle of them, and find what was not counted.
 */
export function requireFewInBinary(desc: DescMessage, message: Uint8Array): void {
  const reader = new CountingReader(message);
  walk(reader, desc, message.length);
}

class CountingReader extends BinaryReader {
  #count = 0;

  /** Also within what is skipped. */
  override tag(): ReturnType<BinaryReader['tag']> {
    this.count(1);
    return super.tag();
  }

  count(elements: number): void {
    this.#count += elements;
    if (this.#count > maxElements) throw new Error(tooMany);
  }
}

/** Goes through the fields of one message. `desc` is null for an entry of a map, which holds no messages here. */
function walk(reader: CountingReader, desc: DescMessage | null, end: number): void {
  while (reader.pos < end) {
    const [number, wireType] = reader.tag();
    const field = desc?.fields.find((known) => known.number === number);
    const isEntryOfTexts = desc === null && (number === 1 || number === 2);
    if (isEntryOfTexts && wireType !== WireType.LengthDelimited) throw new Error(`entry: wire type ${wireType}`);
    if (field) walkField(reader, field, wireType, end);
    else reader.skip(wireType, number);
  }
  if (reader.pos !== end) throw new RangeError('a field is longer than its message');
}

function walkField(reader: CountingReader, field: DescField, wireType: WireType, end: number): void {
  const isPacked = field.fieldKind === 'list' && wireType === WireType.LengthDelimited;
  const expected = wireTypeOf(field);
  if (wireType !== expected && !isPacked) throw new Error(`${field.name}: wire type ${wireType}`);
  const holdsFields = field.fieldKind === 'map' || field.message !== undefined;
  if (!holdsFields && wireType === expected) {
    reader.skip(wireType, field.number);
    return;
  }
  const length = reader.uint32();
  if (length > end - reader.pos) throw new RangeError(`${field.name} is longer than its message`);
  if (holdsFields) walk(reader, field.fieldKind === 'map' ? null : (field.message ?? null), reader.pos + length);
  else {
    // Numbers in a row, each of a byte or more.
    reader.count(length);
    reader.pos += length;
  }
}

/** Of one item, in a list. */
function wireTypeOf(field: DescField): WireType {
  if (field.fieldKind === 'map' || field.message) return WireType.LengthDelimited;
  switch (field.scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return WireType.LengthDelimited;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return WireType.Bit64;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return WireType.Bit32;
    default:
      return WireType.Varint;
  }
}
