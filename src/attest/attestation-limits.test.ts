import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { type Attestation, decodeAttestation, encodeAttestation } from './attestation.ts';
import { FormatError } from './byte-reader.ts';

const sample: Attestation = {
  platform: 'tdx',
  quote: Buffer.of(1),
  eventLog: [],
  runtimeEvents: [],
  reportData: Buffer.alloc(64),
  config: '{}',
};
const event = { imr: 3, eventType: 1, digest: Buffer.alloc(0), event: '', payload: Buffer.alloc(0) };
const refused = (pattern: RegExp) => (error: unknown) => error instanceof FormatError && pattern.test(error.message);

for (const version of [0, 1] as const)
  test(`version ${version}: quote, events and the whole are bounded`, async () => {
    const decode = async (change: Partial<Attestation>) =>
      decodeAttestation(await encodeAttestation({ ...sample, ...change }, version));
    assert.equal((await decode({ quote: Buffer.alloc(65536) })).quote.length, 65536);
    assert.equal((await decode({ eventLog: Array(4096).fill(event) })).eventLog.length, 4096);
    await assert.rejects(decode({ quote: Buffer.alloc(65537) }), refused(/quote is too long|more than 65536/));
    await assert.rejects(decode({ eventLog: Array(4097).fill(event) }), refused(/more than 4096/));
    await assert.rejects(decode({ runtimeEvents: Array(4097).fill(event) }), refused(/more than 4096/));
    await assert.rejects(decode({ config: ' '.repeat(2 ** 20) }), refused(/attestation is too long/));
  });

const map = (data: object) => ({ version: 1, platform: { kind: 'tdx', data }, stack: {} });

test('a log of what is no event is refused for its first element', async () => {
  const log = (length: number) => encode(map({ quote: [], event_log: Array(length).fill(0) }));
  await assert.rejects(decodeAttestation(log(4096)), refused(/integer where map/));
  await assert.rejects(decodeAttestation(log(1_000_000)), refused(/more than 4096/));
});

test('fields that are not known are passed over, whatever is in them', async () => {
  let deep: unknown = [null, true, 1.5, -1, -200, 2 ** 40, 'x'.repeat(300), Buffer.alloc(300), { a: [] }];
  for (let depth = 0; depth < 50; depth++) deep = [deep];
  const stack = { kind: 'x', data: { report_data: Buffer.alloc(64), runtime_events: [], config: '{}', later: deep } };
  const whole = { later: deep, ...map({ quote: [1], event_log: [] }), stack };
  assert.deepEqual(await decodeAttestation(encode(whole)), sample);
  const nested = Buffer.concat([Buffer.from([0x81, 0xa1, 0x78]), Buffer.alloc(1_000_000, 0x91), Buffer.of(0xc0)]);
  await assert.rejects(decodeAttestation(nested), refused(/there is no version/));
  await assert.rejects(decodeAttestation(encode(map({ quote: [] }))), refused(/there is no event_log/));
});
