import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, type MessageInitShape, toBinary, toJsonString } from '@bufbuild/protobuf';
import { maxElements, requireFewInBinary, requireFewInJson } from './elements.ts';
import { CreateVmRequestSchema, file_vmprovisioner_v1_vm, type VmConfigSchema } from './gen/vmprovisioner/v1/vm_pb.js';

const tooMany = { message: `more than ${maxElements} elements` };

const encoded = (config: MessageInitShape<typeof VmConfigSchema>) =>
  toBinary(CreateVmRequestSchema, create(CreateVmRequestSchema, { config }));
const checkBinary = (message: Uint8Array) => requireFewInBinary(CreateVmRequestSchema, message);
const entries = (count: number, value: string) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, value]));

/** As many devices, labels and name servers as a VM can have, with all there is to say of each. */
const largest: MessageInitShape<typeof VmConfigSchema> = {
  cpu: { vcpuCount: 1, topology: { sockets: 1, coresPerSocket: 1, threadsPerCore: 1 }, features: entries(8, 'x') },
  memory: { sizeBytes: 1n << 40n, hotplugEnabled: true, backing: entries(8, 'x') },
  boot: { kernelPath: '/k', initrdPath: '/i', kernelArgs: 'a,b{c['.repeat(1000), bootOptions: entries(8, 'x') },
  storage: Array.from({ length: 8 }, (_, index) => ({
    ...{ id: `d${index}`, path: '/p', readOnly: true, interfaceType: 'virtio-blk', options: entries(8, 'x') },
    ...{ deviceId: `d${index}`, pathOnHost: '/p', isReadOnly: true },
  })),
  network: Array.from({ length: 8 }, (_, index) => ({
    ...{ id: `n${index}`, macAddress: 'auto', interfaceType: 'virtio', options: entries(8, 'x'), mode: 1 },
    ipv4Config: {
      address: '10.0.0.2',
      netmask: '255.0.0.0',
      gateway: '10.0.0.1',
      dnsServers: Array(8).fill('10.0.0.1'),
    },
    rxRateLimit: { bandwidth: 1n, burst: 1n, refillTime: 1n },
    guestIpv4: { address: '10.0.0.2' },
  })),
  metadata: entries(64, '"\\",{[]}'.repeat(400)),
};

describe('what an honest client sends', () => {
  it('is far below the bound', () => {
    const message = create(CreateVmRequestSchema, { config: largest });
    checkBinary(toBinary(CreateVmRequestSchema, message));
    requireFewInJson(toJsonString(CreateVmRequestSchema, message));
  });
});

describe('elements of JSON', () => {
  for (const [what, text, more] of [
    ['items', `[${Array(maxElements).fill(1)}]`, `[${Array(maxElements + 1).fill(1)}]`],
    ['lists', '['.repeat(maxElements), '['.repeat(maxElements + 1)],
    ['members', `{${Array(maxElements).fill('"":0')}}`, `{${Array(maxElements + 1).fill('"":0')}}`],
    ['what is behind an escaped quote', `["\\"${',"'.repeat(2)},1]`, `["\\"",${'{'.repeat(maxElements)}`],
  ] as const)
    it(`are counted: ${what}`, () => {
      requireFewInJson(text);
      assert.throws(() => requireFewInJson(more), tooMany);
    });
});

describe('elements of a binary message', () => {
  const messages = (count: number) => Buffer.alloc(2 * count, Buffer.from([0x22, 0]));
  const field = (tag: number, data: Uint8Array) => {
    const varint = Array.from(
      { length: 3 },
      (_, index) => ((data.length >> (7 * index)) & 0x7f) | (index < 2 ? 0x80 : 0),
    );
    return Buffer.concat([Buffer.from([tag, ...varint]), data]);
  };
  const configTag = (CreateVmRequestSchema.field.config.number << 3) | 2;

  it('are counted within messages', () => {
    checkBinary(field(configTag, messages(maxElements - 1)));
    assert.throws(() => checkBinary(field(configTag, messages(maxElements))), tooMany);
    assert.throws(() => checkBinary(encoded({ storage: Array(125_000).fill({}) })), tooMany);
  });

  it('are counted in maps: an entry, its key and its value', () => {
    const most = Math.floor((maxElements - 1) / 3);
    checkBinary(encoded({ metadata: entries(most, 'v') }));
    assert.throws(() => checkBinary(encoded({ metadata: entries(most + 1, 'v') })), tooMany);
  });

  it('are counted in what nobody knows', () => {
    const group = (count: number) => Buffer.concat([Buffer.from([0x7b]), messages(count), Buffer.from([0x7c])]);
    checkBinary(group(maxElements - 2));
    assert.throws(() => checkBinary(group(maxElements - 1)), tooMany);
  });

  for (const [what, message] of [
    ['a message as a number', Buffer.from([configTag & ~7, 0])],
    ['a message as eight bytes', Buffer.concat([Buffer.from([(configTag & ~7) | 1]), Buffer.alloc(8)])],
    ['a text as a number', Buffer.from([(CreateVmRequestSchema.field.vmId.number << 3) | 0, 0])],
    ['a number as a text', field(configTag, field(0x0a, field(0x0a, messages(3))))],
    ['a key as a number', field(configTag, field(0x3a, Buffer.from([0x08, 0])))],
    ['a message longer than the one it is in', field(configTag, Buffer.from([0x22, 2]))],
    [
      'a text longer than the message it is in',
      Buffer.concat([field(configTag, Buffer.from([0x3a, 2, 0x0a, 1])), Buffer.from([0])]),
    ],
  ] as const)
    it(`are not hidden in ${what}`, () => {
      assert.throws(() => checkBinary(message), /wire type|longer than/);
    });

  it('are in no entry of a map, for all maps are of texts', () => {
    const maps = file_vmprovisioner_v1_vm.messages.flatMap(({ fields }) =>
      fields.filter((field) => field.fieldKind === 'map'),
    );
    assert.notEqual(maps.length, 0);
    for (const map of maps) assert.deepEqual([map.mapKey, map.mapKind, map.scalar], [9, 'scalar', 9]);
  });
});
