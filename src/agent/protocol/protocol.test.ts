import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { writeBinary } from '../../api/prpc/binary.ts';
import type { MessageType } from '../../api/prpc/message.ts';
import type { Service } from '../../api/prpc/service.ts';
import { anyMessage } from '../../api/prpc/testing/arbitrary.ts';
import { compileProtos, Reference } from '../../api/prpc/testing/reference.ts';
import { DstackGuest, Tappd, Worker } from './dstack-guest.ts';
import { GuestApi } from './guest-api.ts';

const registry = compileProtos(fileURLToPath(new URL('.', import.meta.url)));
const services: Readonly<Record<string, Service>> = {
  'dstack_guest.DstackGuest': DstackGuest,
  'dstack_guest.Tappd': Tappd,
  'dstack_guest.Worker': Worker,
  'guest_api.GuestApi': GuestApi,
};
const scalarNames = new Map([
  [3, 'int64'],
  [4, 'uint64'],
  [8, 'bool'],
  [9, 'string'],
  [12, 'bytes'],
  [13, 'uint32'],
]);

/** A message type as its table has it, and as the .proto file has it: field by field. */
function ofTable(type: MessageType): string[] {
  return Object.entries(type.fields).map(([name, { number, type: of, label }]) =>
    [name, number, typeof of === 'string' ? of : of.name, label].join(' '),
  );
}

function ofProto(name: string): string[] {
  return registry.getMessage(name)!.fields.map((field) => {
    const kind = field.fieldKind === 'list' ? field.listKind : field.fieldKind;
    const type = kind === 'message' ? field.message!.typeName : scalarNames.get(field.scalar!)!;
    const label = field.fieldKind === 'list' ? 'repeated' : field.proto.proto3Optional ? 'optional' : 'singular';
    return [field.name, field.number, type, label].join(' ');
  });
}

const messages = new Map<string, MessageType>();
function collect(type: MessageType): void {
  messages.set(type.name, type);
  for (const { type: of } of Object.values(type.fields)) if (typeof of !== 'string') collect(of);
}
for (const service of Object.values(services))
  for (const { input, output } of Object.values(service)) for (const type of [input, output]) collect(type);

describe('the tables say what the .proto files say', () => {
  for (const [name, service] of Object.entries(services))
    test(name, () => {
      const methods = registry
        .getService(name)!
        .methods.map((method) => [method.name, method.input.typeName, method.output.typeName]);
      assert.deepEqual(
        Object.entries(service).map(([method, { input, output }]) => [method, input.name, output.name]),
        methods,
      );
    });

  for (const [name, type] of messages) test(name, () => assert.deepEqual(ofTable(type), ofProto(name)));
});

test('protobuf-es reads every message that is written from the tables', () => {
  for (const type of messages.values()) {
    const reference = new Reference(registry, type);
    fc.assert(
      fc.property(anyMessage(type), (value) => {
        assert.deepEqual(reference.decode(writeBinary(type, value)), reference.canonical(value));
      }),
      { numRuns: 25 },
    );
  }
});
