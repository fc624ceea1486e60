import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import {
  createFileRegistry,
  type DescMessage,
  type FileRegistry,
  fromBinary,
  fromJson,
  type JsonValue,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import type { AnyMessage, Field, MessageType, ScalarType } from '../message.ts';

const buf = fileURLToPath(new URL('../../../../node_modules/.bin/buf', import.meta.url));

/** The descriptors of a directory of .proto files, made by buf. */
export function compileProtos(directory: string): FileRegistry {
  const set = execFileSync(buf, ['build', directory, '-o', '-', '--as-file-descriptor-set']);
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, set));
}

/** Encodes and decodes with protobuf-es what this codec has as a message. */
export class Reference {
  readonly #type: MessageType;
  readonly #schema: DescMessage;

  constructor(registry: FileRegistry, type: MessageType) {
    const schema = registry.getMessage(type.name);
    if (!schema) throw new Error(`${type.name} is in no .proto file`);
    this.#type = type;
    this.#schema = schema;
  }

  encode(value: AnyMessage): Uint8Array {
    return toBinary(this.#schema, fromJson(this.#schema, canonical(this.#type, value)));
  }

  /** The bytes as protobuf's canonical JSON. */
  decode(bytes: Uint8Array): JsonValue {
    return toJson(this.#schema, fromBinary(this.#schema, bytes), { useProtoFieldName: true });
  }

  /** A message of ours as protobuf's canonical JSON: what `decode` gives for it. */
  canonical(value: AnyMessage): JsonValue {
    return toJson(this.#schema, fromJson(this.#schema, canonical(this.#type, value)), { useProtoFieldName: true });
  }
}

function canonical(type: MessageType, value: AnyMessage): JsonValue {
  const members = Object.entries(type.fields).map(([name, field]) => [name, canonicalField(field, value[name])]);
  return Object.fromEntries(members);
}

function canonicalField(field: Field, value: unknown): JsonValue {
  if (value === null) return null;
  return field.label === 'repeated'
    ? (value as unknown[]).map((each) => canonicalOne(field.type, each))
    : canonicalOne(field.type, value);
}

function canonicalOne(type: ScalarType | MessageType, value: unknown): JsonValue {
  if (typeof type !== 'string') return canonical(type, value as AnyMessage);
  if (type === 'bytes') return Buffer.from(value as Uint8Array).toString('base64');
  return typeof value === 'bigint' ? String(value) : (value as JsonValue);
}
