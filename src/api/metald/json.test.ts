import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, type DescMessage, equals, fromJson, toJson } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import fc from 'fast-check';
import {
  CreateVmRequestSchema,
  GetVmInfoResponseSchema,
  ListVmsRequestSchema,
  ListVmsResponseSchema,
  NetworkMode,
  VmConfigSchema,
  VmMetricsSchema,
  VmState,
} from './gen/vmprovisioner/v1/vm_pb.js';
import { JsonWriter, readJson } from './json.ts';

const text = fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', '"\\\n\u2028'));
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const config = fc
  .record({
    cpu: fc.record({ vcpuCount: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), cpuTemplate: text }),
    memory: fc.record({ sizeBytes: int64, hotplugEnabled: fc.boolean() }),
    storage: fc.array(fc.record({ id: text, path: text, readOnly: fc.boolean() }), { maxLength: 3 }),
    metadata: fc.dictionary(fc.string(), text, { maxKeys: 3 }),
  })
  .map((value) => create(VmConfigSchema, value));
const info = fc
  .record({
    vmId: text,
    state: fc.constantFrom(VmState.UNSPECIFIED, VmState.CREATED, VmState.PAUSED, 77 as VmState),
    config,
    metrics: fc
      .record({ cpuUsagePercent: fc.double({ noNaN: true }).map((value) => value + 0), cpuTimeNanos: int64 })
      .map((value) => create(VmMetricsSchema, value)),
  })
  .map((value) => create(GetVmInfoResponseSchema, value));

describe('JSON of messages', () => {
  it("is protobuf's own in the style proto", () => {
    const writer = new JsonWriter('proto');
    fc.assert(
      fc.property(info, (message) => {
        const written = JSON.parse(writer.write(GetVmInfoResponseSchema, message));
        assert.deepEqual(written, JSON.parse(JSON.stringify(toJson(GetVmInfoResponseSchema, message))));
      }),
    );
  });

  for (const style of ['spec', 'proto'] as const) {
    it(`is read again as the same message in the style ${style}`, () => {
      const writer = new JsonWriter(style);
      fc.assert(
        fc.property(info, (message) => {
          const written = writer.write(GetVmInfoResponseSchema, message);
          // A parser that does not know the names from 100 on would ignore them; ours must take all.
          const read = fromJson(GetVmInfoResponseSchema, JSON.parse(written));
          assert.ok(equals(GetVmInfoResponseSchema, read, message), written);
        }),
      );
    });
  }

  it('has numbers up to 2^53 in the style spec, and texts above', () => {
    const writer = new JsonWriter('spec');
    for (const [size, written] of [
      [2n ** 53n - 1n, '{"memory":{"size_bytes":9007199254740991}}'],
      [2n ** 53n, '{"memory":{"size_bytes":"9007199254740992"}}'],
    ] as const) {
      const message = create(VmConfigSchema, { memory: { sizeBytes: size } });
      assert.equal(writer.write(VmConfigSchema, message), written);
    }
  });

  it('has the names of what JSON has no numbers for', () => {
    const message = create(VmMetricsSchema, { cpuUsagePercent: Number.NaN });
    assert.equal(new JsonWriter('proto').write(VmMetricsSchema, message), '{"cpuUsagePercent":"NaN"}');
  });

  it('tells in the style spec what there is none of, where something is reported', () => {
    const writer = new JsonWriter('spec');
    const list = writer.write(ListVmsResponseSchema, create(ListVmsResponseSchema));
    assert.equal(list, '{"vms":[],"next_page_token":"","total_count":0}');
    const metrics = JSON.parse(writer.write(VmMetricsSchema, create(VmMetricsSchema)));
    assert.equal(metrics.disk_read_bytes, 0);
  });
});

describe('JSON of requests', () => {
  for (const [what, json] of [
    ['numbers', '{"memory":{"size_bytes":134217728}}'],
    ['texts', '{"memory":{"sizeBytes":"134217728"}}'],
    ['powers of ten', '{"memory":{"sizeBytes":1.34217728e8}}'],
    ['with what nobody knows', '{"memory":{"sizeBytes":134217728,"x":{}},"y":[1]}'],
  ] as const) {
    it(`is read with ${what}`, () => {
      assert.equal(readJson(VmConfigSchema, json).memory?.sizeBytes, 134_217_728n);
    });
  }

  for (const [what, desc, json, message] of [
    ['a list', ListVmsRequestSchema, '{"state_filter":["VM_STATE_RUNNING","RUNNING"]}', 'state_filter: "RUNNING"'],
    ['a message of a list', VmConfigSchema, '{"network":[{},{"mode":"IPV4_ONLY"}]}', 'mode: "IPV4_ONLY"'],
    ['a message', CreateVmRequestSchema, '{"config":{"network":[{"mode":"ipv6_only"}]}}', 'mode: "ipv6_only"'],
  ] as const) {
    it(`is refused for a name in ${what} that is none of its field's`, () => {
      assert.throws(() => readJson<DescMessage>(desc, json), {
        code: Code.InvalidArgument,
        rawMessage: `unmarshal message: ${message} is not known`,
      });
    });
  }

  it('is read with the names and the numbers of enums', () => {
    const { network } = readJson(
      VmConfigSchema,
      '{"network":[{"mode":"NETWORK_MODE_IPV4_ONLY"},{"mode":3},{"mode":null}]}',
    );
    assert.deepEqual(
      network.map(({ mode }) => mode),
      [NetworkMode.IPV4_ONLY, NetworkMode.IPV6_ONLY, NetworkMode.UNSPECIFIED],
    );
  });
});
