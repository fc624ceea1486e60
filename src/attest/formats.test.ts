import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import fc from 'fast-check';
import { parseAppCompose } from './app-compose.ts';
import { type Attestation, decodeAttestation, encodeAttestation } from './attestation.ts';
import { FormatError } from './byte-reader.ts';
import { parseEventLog, RUNTIME_EVENT_TYPE } from './events.ts';
import { ScaleReader, ScaleWriter } from './scale.ts';
import { SimulatedPlatform } from './simulated/platform.ts';
import { SimulatedTdxQuoter } from './simulated/tdx-quoter.ts';
import { parseQuote } from './tdx-quote.ts';
import { decodeRequest } from './tls/csr.ts';
import { createCertificate, createEmptyCrl, publicKeyInfo, readCertificate } from './x509/certificate.ts';
import * as der from './x509/der.ts';

/** What comes from outside is read or refused with the reader's own error, whatever it is. */

const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
const text = fc.string({ unit: 'grapheme', maxLength: 20 });
const plain = { noNullPrototype: true } as const;
const attestations: fc.Arbitrary<Attestation> = fc.record(
  {
    platform: fc.constant('tdx' as const),
    quote: bytes,
    eventLog: fc.array(
      fc.record(
        {
          imr: fc.integer({ min: 0, max: 3 }),
          eventType: fc.constantFrom(RUNTIME_EVENT_TYPE, 1, 0xffffffff),
          digest: bytes,
          event: text,
          payload: bytes,
        },
        plain,
      ),
      { maxLength: 5 },
    ),
    runtimeEvents: fc.array(fc.record({ event: text, payload: bytes }, plain), { maxLength: 5 }),
    reportData: fc.uint8Array({ minLength: 64, maxLength: 64 }).map((array) => Buffer.from(array)),
    config: text,
  },
  plain,
);

/** A valid encoding with some bytes changed, cut out or put in. */
function damaged(valid: Buffer): fc.Arbitrary<Buffer> {
  const edit = fc.tuple(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 3 }), fc.uint8Array({ maxLength: 3 }));
  return fc.array(edit, { minLength: 1, maxLength: 4 }).map((edits) => {
    let result = valid;
    for (const [at, gone, put] of edits)
      result = Buffer.concat([result.subarray(0, at), put, result.subarray(at + gone)]);
    return result;
  });
}

test('attestations are read as they were written', async () => {
  await fc.assert(
    fc.asyncProperty(attestations, fc.constantFrom(0 as const, 1 as const), async (attestation, version) => {
      assert.deepEqual(await decodeAttestation(await encodeAttestation(attestation, version)), attestation);
    }),
  );
});

test('version 1 has the maps that its readers expect, and reads bytes in either form', async () => {
  const list = [...Buffer.alloc(64)];
  const map = (asBytes: (numbers: number[]) => unknown): unknown => ({
    version: 1,
    platform: { kind: 'tdx', data: { quote: asBytes([1, 2]), event_log: [] } },
    stack: {
      kind: 'dstack',
      data: { report_data: asBytes(list), runtime_events: [{ event: 'x', payload: asBytes([3]) }], config: '{}' },
    },
  });
  const expected: Attestation = {
    platform: 'tdx',
    quote: Buffer.of(1, 2),
    eventLog: [],
    runtimeEvents: [{ event: 'x', payload: Buffer.of(3) }],
    reportData: Buffer.alloc(64),
    config: '{}',
  };
  for (const form of [(numbers: number[]) => numbers, (numbers: number[]) => Buffer.from(numbers)])
    assert.deepEqual(await decodeAttestation(encode(map(form))), expected);
  const unknown = encode({ ...(map((numbers) => numbers) as object), version: 2 });
  await assert.rejects(decodeAttestation(unknown), FormatError);
});

test('damaged attestations are refused or read, never worse', async () => {
  const [sample] = fc.sample(attestations, { numRuns: 1, seed: 7 });
  for (const version of [0, 1] as const) {
    const valid = await encodeAttestation(sample!, version);
    await fc.assert(
      fc.asyncProperty(damaged(valid), async (input) => {
        await decodeAttestation(input).catch((error) => assert.ok(error instanceof FormatError, String(error)));
      }),
      { numRuns: 500 },
    );
  }
});

test('lengths are compact, in their shortest form only', () => {
  for (const [length, hex] of [
    [0, '00'],
    [63, 'fc'],
    [64, '0101'],
    [16383, 'fdff'],
    [16384, '02000100'],
    [2 ** 30 - 1, 'feffffff'],
  ] as const) {
    assert.equal(new ScaleWriter().length(length).encode().toString('hex'), hex);
    assert.equal(new ScaleReader(Buffer.from(hex, 'hex')).length(), length);
  }
  for (const hex of ['0100', '02000000', '03', '01', ''])
    assert.throws(() => new ScaleReader(Buffer.from(hex, 'hex')).length(), FormatError);
  assert.throws(
    () => new ScaleReader(Buffer.from('feffffff', 'hex')).list({ least: 1, most: 2 ** 32 }, () => 0),
    FormatError,
  );
});

test('damaged quotes are refused or read, never worse', async () => {
  const quoter = new SimulatedTdxQuoter(SimulatedPlatform.create(), { mrtd: Buffer.alloc(48), bootEvents: [] });
  const valid = await quoter.quote(Buffer.alloc(64));
  assert.doesNotThrow(() => parseQuote(valid));
  const read = (input: Uint8Array): boolean => {
    try {
      parseQuote(input);
      return true;
    } catch (error) {
      assert.ok(error instanceof FormatError, String(error));
      return false;
    }
  };
  fc.assert(
    fc.property(damaged(valid), (input) => void read(input)),
    { numRuns: 1000 },
  );
  for (let length = 0; length < valid.length; length += 13) assert.ok(!read(valid.subarray(0, length)));
});

test('damaged certificates and requests are refused or read, never worse', () => {
  const { root } = SimulatedPlatform.create().pki.certificates;
  fc.assert(
    fc.property(fc.oneof(damaged(root), fc.uint8Array({ maxLength: 100 })), (input) => {
      try {
        readCertificate(input);
      } catch (error) {
        assert.ok(error instanceof der.DerError, String(error));
      }
      try {
        decodeRequest(input);
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

test('DER is written as it is read', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }), (parts) => {
      const reader = new der.DerReader(der.DerReader.single(der.sequence(...parts.map(der.octetString))).content);
      assert.deepEqual(
        parts.map(() => new Uint8Array(reader.next(der.tag.octetString).content)),
        parts.map((part) => new Uint8Array(part)),
      );
      assert.ok(reader.done);
    }),
  );
  for (const dotted of ['1.2.840.113741.1.13.1.2.17', '2.5.29.19', '2.999.1', '0.9.2342'])
    assert.equal(der.readOid(der.DerReader.single(der.oid(dotted)).content), dotted);
  assert.equal(der.integer(0).toString('hex'), '020100');
  assert.equal(der.integer(128).toString('hex'), '02020080');
  assert.equal(der.integer(Buffer.of(0, 0, 1)).toString('hex'), '020101');
  assert.equal(der.time(new Date('2049-12-31T23:59:59Z')).toString('latin1', 2), '491231235959Z');
  assert.equal(der.time(new Date('2050-01-01T00:00:00Z')).toString('latin1', 2), '20500101000000Z');
  for (const hex of ['3080', '04810100', '0482000100', '0405', '1f0100', ''])
    assert.throws(() => der.DerReader.single(Buffer.from(hex, 'hex')), der.DerError);
});

test('an extension that is there twice is refused', () => {
  const { keys, certificates } = SimulatedPlatform.create().pki;
  const extension = { oid: '1.3.6.1.4.1.62397.1.8', value: der.octetString(Buffer.of(1)) };
  const twice = createCertificate(
    {
      subject: {},
      publicKey: publicKeyInfo(keys.pck),
      notBefore: new Date(),
      notAfter: new Date(),
      extensions: [extension, extension],
    },
    { key: keys.root, certificate: certificates.root },
  );
  assert.throws(() => readCertificate(twice), /twice/);
  // A revocation list is no certificate.
  const dates = { thisUpdate: new Date(), nextUpdate: new Date() };
  assert.throws(
    () => readCertificate(createEmptyCrl({ key: keys.root, certificate: certificates.root }, dates)),
    der.DerError,
  );
});

test('event logs from outside are read or refused', () => {
  const entry = { imr: 0, event_type: 1, digest: '00'.repeat(48), event: 'x', event_payload: 'ff' };
  assert.equal(parseEventLog([entry])[0]?.payload[0], 255);
  for (const change of [
    { imr: 4 },
    { imr: 1.5 },
    { imr: '0' },
    { event_type: -1 },
    { event_type: 2 ** 32 },
    { digest: '00' },
    { digest: 'xx'.repeat(48) },
    { event: 1 },
    { event_payload: 'f' },
    { event_payload: null },
  ])
    assert.throws(() => parseEventLog([{ ...entry, ...change }]), /event 0/, JSON.stringify(change));
  assert.throws(() => parseEventLog([null]), /event 0/);
  assert.throws(() => parseEventLog('{}'), /array/);
  assert.throws(() => parseEventLog('nothing'), FormatError);
});

test('an app-compose.json is read leniently, and its text is what counts', () => {
  const lenient = parseAppCompose('{"name":null,"key_provider":null,"kms_enabled":true,"extra":{"a":1}}');
  assert.deepEqual(
    [lenient.name, lenient.runner, lenient.keyProvider, lenient.publicTcbinfo, lenient.publicLogs],
    ['', 'docker-compose', 'kms', true, false],
  );
  assert.equal(parseAppCompose('{"key_provider":"tpm","kms_enabled":true}').keyProvider, 'tpm');
  assert.equal(parseAppCompose('{"local_key_provider_enabled":true}').keyProvider, 'local');
  assert.notDeepEqual(parseAppCompose('{}').hash, parseAppCompose('{ }').hash);
  for (const bad of ['', '[]', '{"name":1}', '{"key_provider":"x"}', '{"allowed_envs":"A"}'])
    assert.throws(() => parseAppCompose(bad), /Invalid compose file/);
});
