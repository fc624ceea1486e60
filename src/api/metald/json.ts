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
  ScalarType,
  toJson,
} from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';

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

/** Reads a request. Throws `invalid_argument`. */
export function readJson<D extends DescMessage>(desc: D, text: string): MessageShape<D> {
  if (text.trim() === '') throw malformed('zero-length payload is not a valid JSON object');
  try {
    return fromJson(desc, JSON.parse(text) as JsonValue, { ignoreUnknownFields: true });
  } catch (error) {
    throw malformed(error instanceof Error ? error.message.slice(0, longestComplaint) : 'invalid');
  }
}

function malformed(reason: string): ConnectError {
  return new ConnectError(`unmarshal message: ${reason}`, Code.InvalidArgument);
}

export function writeJson(desc: DescMessage, message: Message, style: JsonStyle): JsonValue {
  return style === 'proto' ? toJson(desc, message) : specMessage(desc, message);
}

function specMessage(desc: DescMessage, message: Message): JsonValue {
  const values = message as unknown as Readonly<Record<string, unknown>>;
  const whole = reports.has(desc.name);
  const out: Record<string, JsonValue> = {};
  for (const field of desc.fields) {
    const value = values[field.localName];
    if (value === undefined || (!whole && isDefault(field, value))) continue;
    out[field.name] = specField(field, value);
  }
  return out;
}

function isDefault(field: DescField, value: unknown): boolean {
  if (field.fieldKind === 'list') return (value as readonly unknown[]).length === 0;
  if (field.fieldKind === 'map') return Object.keys(value as object).length === 0;
  return value === 0 || value === 0n || value === '' || value === false;
}

function specField(field: DescField, value: unknown): JsonValue {
  switch (field.fieldKind) {
    case 'list':
      return (value as readonly unknown[]).map((item) => specItem(field, item));
    case 'map':
      return Object.fromEntries(Object.entries(value as object).map(([key, item]) => [key, specItem(field, item)]));
    default:
      return specItem(field, value);
  }
}

function specItem(field: DescField, value: unknown): JsonValue {
  if (field.message) return specMessage(field.message, value as Message);
  if (field.enum) return field.enum.value[value as number]?.name ?? (value as number);
  if (typeof value === 'bigint') return specInteger(value);
  if (field.scalar === ScalarType.BYTES) return Buffer.from(value as Uint8Array).toString('base64');
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : (value as JsonValue);
}

/** A number where JSON's can hold it, else a text, which every parser of 64-bit fields takes as well. */
function specInteger(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
