import { DecodeError } from './decode-error.ts';
import { formatHex, parseHex } from './hex.ts';
import { parseInteger } from './integers.ts';
import { maxDepth, maxElements, maxExactCharacters } from './limits.ts';
import { type AnyMessage, Empty, emptyMessage, type Field, type MessageType, type ScalarType } from './message.ts';

/**
 * The JSON of the dstack protocols. It is not protobuf's canonical JSON: names stay in snake_case, bytes are hexadecimal,
 * 64-bit integers are numbers, every field is present and what is unset is null.
 */

/** A number that JavaScript's own type cannot hold exactly, as it was written. */
class ExactNumber {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/**
 * Reads a JSON object as a message. Fields that are missing or null are at their defaults, those nobody knows are ignored.
 * @throws {DecodeError} naming the field
 */
export function readJson(type: MessageType, text: string): AnyMessage {
  return readMessage(type, parse(text, text.length <= maxExactCharacters && holdsIntegers(type)), '', 0);
}

/** @param exact whether numbers matter: keeping them exact makes parsing up to sixty times slower */
function parse(text: string, exact: boolean): unknown {
  try {
    if (!exact) return JSON.parse(text);
    // The third argument is ECMAScript's JSON.parse source text access, which the types do not have yet.
    const reviver = (_key: string, value: unknown, context?: { readonly source?: string }) =>
      typeof value === 'number' && !Number.isSafeInteger(value) ? new ExactNumber(context?.source ?? '') : value;
    return JSON.parse(text, reviver);
  } catch {
    throw new DecodeError('invalid JSON');
  }
}

const integerHolders = new WeakMap<MessageType, boolean>();

/** Whether a message has integers, in itself or in its parts. */
function holdsIntegers(type: MessageType): boolean {
  const known = integerHolders.get(type);
  if (known !== undefined) return known;
  const holds = Object.values(type.fields).some(({ type: inner }) =>
    typeof inner === 'string' ? inner.includes('int') : holdsIntegers(inner),
  );
  integerHolders.set(type, holds);
  return holds;
}

function readMessage(type: MessageType, json: unknown, where: string, depth: number): AnyMessage {
  if (typeof json !== 'object' || json === null || Array.isArray(json) || json instanceof ExactNumber)
    throw new DecodeError(`${where || 'request'}: expected an object`);
  if (depth > maxDepth) throw new DecodeError(`${where}: nested too deep`);
  const values = emptyMessage(type);
  for (const [name, field] of Object.entries(type.fields)) {
    const value = Object.hasOwn(json, name) ? (json as AnyMessage)[name] : undefined;
    if (value !== undefined && value !== null) values[name] = readField(field, value, join(where, name), depth);
  }
  return values;
}

function readField(field: Field, json: unknown, where: string, depth: number): unknown {
  if (field.label !== 'repeated') return readOne(field.type, json, where, depth);
  if (!Array.isArray(json)) throw new DecodeError(`${where}: expected an array`);
  if (json.length > maxElements) throw new DecodeError(`${where}: more than ${maxElements} elements`);
  return json.map((each, index) => readOne(field.type, each, `${where}[${index}]`, depth));
}

function readOne(type: ScalarType | MessageType, json: unknown, where: string, depth: number): unknown {
  if (typeof type !== 'string') return readMessage(type, json, where, depth + 1);
  switch (type) {
    case 'string':
      if (typeof json !== 'string') throw new DecodeError(`${where}: expected a string`);
      // Half of a character has no bytes that could be hashed or sent on.
      if (!json.isWellFormed()) throw new DecodeError(`${where}: not Unicode text`);
      return json;
    case 'bytes':
      if (typeof json !== 'string') throw new DecodeError(`${where}: expected a string of hexadecimal digits`);
      return parseHex(json, where);
    case 'bool':
      if (typeof json !== 'boolean') throw new DecodeError(`${where}: expected true or false`);
      return json;
    default:
      if (json instanceof ExactNumber) return parseInteger(json.text, type, where);
      if (typeof json !== 'number') throw new DecodeError(`${where}: expected an integer`);
      // Of a long request, whose numbers are not kept exact.
      if (Number.isInteger(json) && !Number.isSafeInteger(json)) throw new DecodeError(`${where}: out of range`);
      return parseInteger(Object.is(json, -0) ? '0' : String(json), type, where);
  }
}

function join(where: string, name: string): string {
  return where === '' ? name : `${where}.${name}`;
}

/**
 * A reply as JSON in ASCII: clients exist that count characters where HTTP counts bytes, so what is not ASCII is written
 * as `\uXXXX`.
 */
export function writeJson(type: MessageType, value: AnyMessage): string {
  return asciiJson(type === Empty ? 'null' : writeMessage(type, value));
}

/** Escapes what is not ASCII in a JSON text, where it can only stand inside strings. */
export function asciiJson(json: string): string {
  return json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function writeMessage(type: MessageType, value: AnyMessage): string {
  const members = Object.entries(type.fields).map(([name, field]) => `"${name}":${writeField(field, value[name])}`);
  return `{${members.join(',')}}`;
}

function writeField(field: Field, value: unknown): string {
  if (field.label === 'repeated')
    return `[${(value as unknown[]).map((each) => writeOne(field.type, each)).join(',')}]`;
  return value === null ? 'null' : writeOne(field.type, value);
}

function writeOne(type: ScalarType | MessageType, value: unknown): string {
  if (typeof type !== 'string') return writeMessage(type, value as AnyMessage);
  if (type === 'bytes') return `"${formatHex(value as Uint8Array)}"`;
  return type === 'string' ? JSON.stringify(value) : String(value);
}
