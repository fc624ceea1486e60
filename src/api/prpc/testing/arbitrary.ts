import fc from 'fast-check';
import type { AnyMessage, Field, MessageType, ScalarType } from '../message.ts';

/** Any message of a type. */
export function anyMessage(type: MessageType): fc.Arbitrary<AnyMessage> {
  const fields = Object.entries(type.fields).map(([name, field]) => [name, anyField(field)] as const);
  return fc.record(Object.fromEntries(fields), { noNullPrototype: true });
}

function anyField(field: Field): fc.Arbitrary<unknown> {
  const one = typeof field.type === 'string' ? scalars[field.type]() : anyMessage(field.type);
  if (field.label === 'repeated') return fc.array(one, { maxLength: 5 });
  return field.label === 'optional' || typeof field.type !== 'string' ? fc.option(one, { nil: null }) : one;
}

const scalars: { readonly [T in ScalarType]: () => fc.Arbitrary<unknown> } = {
  string: () => fc.string({ unit: 'grapheme' }),
  bytes: () => fc.uint8Array(),
  bool: () => fc.boolean(),
  uint32: () => fc.nat({ max: 0xffff_ffff }),
  uint64: () => fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
  int64: () => fc.bigInt({ min: -0x8000_0000_0000_0000n, max: 0x7fff_ffff_ffff_ffffn }),
};
