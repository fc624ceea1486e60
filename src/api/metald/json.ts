/**
 * Messages as JSON. Reading takes every spelling protobuf's JSON has (camelCase and snake_case, numbers and texts), and
 * ignores what it does not know. Writing has two styles, because no reply may hold both spellings of a field.
 */

import {
  type DescField,
  type DescMessage,
  fromJson,
  type JsonValue,
  type Message,
  type MessageShape,
} from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { requireFewInJson } from './elements.ts';

/** `spec`: snake_case and numbers, as the reference prints it. `proto`: camelCase and 64-bit numbers as texts. */
export type JsonStyle = 'spec' | 'proto';

const longestComplaint = 300;

/** Messages that report something are written whole; in settings what is not there was not set. */
const reports = new Set([
  'CreateVmResponse',
  'DeleteVmResponse',
  'BootVmResponse',
  'ShutdownVmResponse',
  'PauseVmResponse',
  'ResumeVmResponse',
  'RebootVmResponse',
  'ListVmsResponse',
  'VmMetrics',
  'NetworkStats',
  'StorageStats',
]);

/** Messages that are made once for each record and never changed, so that their texts are kept as long as they are. */
const kept = new Set(['VmInfo', 'VmConfig']);

/** Reads a request. Throws `invalid_argument`. */
export function readJson<D extends DescMessage>(desc: D, text: string): MessageShape<D> {
  if (text.trim() === '') throw malformed('zero-length payload is not a valid JSON object');
  try {
    requireFewInJson(text);
    const value = JSON.parse(text) as JsonValue;
    requireNames(desc, value);
    return fromJson(desc, value, { ignoreUnknownFields: true });
  } catch (error) {
    throw malformed(error instanceof Error ? error.message.slice(0, longestComplaint) : 'invalid');
  }
}

/** Throws `invalid_argument` for JSON with too much in it, or a name that is not known; what is no JSON is left alone. */
export function checkJson(desc: DescMessage, text: string): void {
  try {
    requireFewInJson(text);
    const value = parsed(text);
    if (value !== undefined) requireNames(desc, value);
  } catch (error) {
    throw malformed((error as Error).message.slice(0, longestComplaint));
  }
}

function parsed(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

/**
 * A name of an enum that is not known is a mistake: left out, as the library does with unknown fields, a filter would let
 * everything through, and a VM would be something else than was asked for.
 */
function requireNames(desc: DescMessage, value: JsonValue): void {
  const given = Object(value) as Readonly<Record<string, unknown>>;
  for (const field of fieldsWithNames(desc)) {
    for (const found of [given[field.name], given[field.jsonName]])
      for (const item of Array.isArray(found) ? found : [found])
        if (field.message) requireNames(field.message, item);
        else if (typeof item === 'string' && !field.enum?.values.some(({ name }) => name === item))
          throw new Error(`${field.name}: ${JSON.stringify(item)} is not known`);
  }
}

const withNames = new WeakMap<DescMessage, readonly DescField[]>();

/** The fields that are enums, or lead to some. */
function fieldsWithNames(desc: DescMessage): readonly DescField[] {
  let fields = withNames.get(desc);
  if (!fields) {
    fields = desc.fields.filter(
      ({ enum: names, message }) =>
        names !== undefined || (message !== undefined && fieldsWithNames(message).length > 0),
    );
    withNames.set(desc, fields);
  }
  return fields;
}

function malformed(reason: string): ConnectError {
  return new ConnectError(`unmarshal message: ${reason}`, Code.InvalidArgument);
}

/** Writes messages of one style as JSON texts. */
export class JsonWriter {
  readonly #style: JsonStyle;
  readonly #texts = new WeakMap<Message, string>();

  constructor(style: JsonStyle) {
    this.#style = style;
  }

  write(desc: DescMessage, message: Message): string {
    const isKept = kept.has(desc.name);
    const known = isKept ? this.#texts.get(message) : undefined;
    if (known !== undefined) return known;
    const text = this.#message(desc, message);
    if (isKept) this.#texts.set(message, text);
    return text;
  }

  #message(desc: DescMessage, message: Message): string {
    const values = message as unknown as Readonly<Record<string, unknown>>;
    const isWhole = this.#style === 'spec' && reports.has(desc.name);
    let text = '';
    for (const field of desc.fields) {
      const value = values[field.localName];
      if (value === undefined || (!isWhole && isDefault(field, value))) continue;
      const name = this.#style === 'spec' ? field.name : field.jsonName;
      text += `${text === '' ? '' : ','}"${name}":${this.#field(field, value)}`;
    }
    return `{${text}}`;
  }

  #field(field: DescField, value: unknown): string {
    if (field.fieldKind === 'list')
      return `[${(value as readonly unknown[]).map((item) => this.#item(field, item)).join(',')}]`;
    if (field.fieldKind !== 'map') return this.#item(field, value);
    const entries = Object.entries(value as object);
    return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${this.#item(field, item)}`).join(',')}}`;
  }

  #item(field: DescField, value: unknown): string {
    if (field.message) return this.write(field.message, value as Message);
    if (field.enum) return JSON.stringify(field.enum.value[value as number]?.name ?? value);
    if (typeof value === 'bigint') return this.#integer(value);
    // Protobuf has names for what JSON's numbers cannot be.
    return JSON.stringify(typeof value === 'number' && !Number.isFinite(value) ? String(value) : value);
  }

  /** A number where JSON's can hold it, else a text, which every parser of 64-bit fields takes as well. */
  #integer(value: bigint): string {
    const isNumber = this.#style === 'spec' && Number.isSafeInteger(Number(value));
    return isNumber ? value.toString() : `"${value}"`;
  }
}

function isDefault(field: DescField, value: unknown): boolean {
  if (field.fieldKind === 'list') return (value as readonly unknown[]).length === 0;
  if (field.fieldKind === 'map') return Object.keys(value as object).length === 0;
  return value === 0 || value === 0n || value === '' || value === false;
}
