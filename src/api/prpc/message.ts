/**
 * Message types of the dstack protocols as plain tables: one description gives the TypeScript type, the protobuf encoding
 * (`binary.ts`), the JSON mapping (`json.ts`) and the query-string mapping (`query.ts`).
 */

/** `uint64` and `int64` are bigints in memory and plain numbers in JSON. `bytes` are hexadecimal in JSON. */
export type ScalarType = 'string' | 'bytes' | 'bool' | 'uint32' | 'uint64' | 'int64';

/**
 * `singular`: always there, with the type's zero value as default (null for messages). `optional`: null when unset.
 * `repeated`: a list.
 */
export type Label = 'singular' | 'optional' | 'repeated';

export interface Field<T extends ScalarType | MessageType = ScalarType | MessageType, L extends Label = Label> {
  /** Field number on the wire, 1 to 2^29 - 1. */
  readonly number: number;
  readonly type: T;
  readonly label: L;
}

export type Fields = Readonly<Record<string, Field>>;

export interface MessageType<F extends Fields = Fields> {
  /** Full protobuf name, `package.Message`. */
  readonly name: string;
  /** By name, in snake_case as in JSON. */
  readonly fields: F;
}

interface ScalarValues {
  readonly string: string;
  readonly bytes: Uint8Array;
  readonly bool: boolean;
  readonly uint32: number;
  readonly uint64: bigint;
  readonly int64: bigint;
}

type Single<T> = T extends ScalarType ? ScalarValues[T] : T extends MessageType<infer F> ? Values<F> : never;

type Value<T, L extends Label> = L extends 'repeated'
  ? readonly Single<T>[]
  : L extends 'optional'
    ? Single<T> | null
    : T extends ScalarType
      ? Single<T>
      : Single<T> | null;

type Values<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T, infer L> ? Value<T, L> : never };

/**
 * The TypeScript type of a message.
 *
 * @example type GetKeyArgs = MessageOf<typeof GetKeyArgs>; // { path: string; purpose: string; algorithm: string }
 */
export type MessageOf<M extends MessageType> = Values<M['fields']>;

/** A message of some type: what the codecs handle. */
export type AnyMessage = Readonly<Record<string, unknown>>;

export function message<const F extends Fields>(name: string, fields: F): MessageType<F> {
  return { name, fields };
}

/** A field that is always there. */
export function field<T extends ScalarType | MessageType>(number: number, type: T): Field<T, 'singular'> {
  return { number, type, label: 'singular' };
}

/** A scalar field that may be unset. */
export function optional<T extends ScalarType>(number: number, type: T): Field<T, 'optional'> {
  return { number, type, label: 'optional' };
}

export function repeated<T extends ScalarType | MessageType>(number: number, type: T): Field<T, 'repeated'> {
  return { number, type, label: 'repeated' };
}

/** `google.protobuf.Empty`: `null` in JSON replies; as a request it says that the body is not looked at. */
export const Empty = message('google.protobuf.Empty', {});

/** The value of a field that was not sent. */
export function defaultOf({ type, label }: Field): unknown {
  if (label === 'repeated') return [];
  if (label === 'optional' || typeof type !== 'string') return null;
  return scalarDefaults[type]();
}

const scalarDefaults: { readonly [T in ScalarType]: () => ScalarValues[T] } = {
  string: () => '',
  bytes: () => new Uint8Array(),
  bool: () => false,
  uint32: () => 0,
  uint64: () => 0n,
  int64: () => 0n,
};

/** A message with every field at its default, to be filled in by a codec. */
export function emptyMessage(type: MessageType): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const [name, each] of Object.entries(type.fields)) values[name] = defaultOf(each);
  return values;
}
