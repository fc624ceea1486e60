import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultAppId, parseAppCompose } from '../app-compose.ts';
import { decodeAttestation, encodeAttestation } from '../attestation.ts';
import { parseEventLog } from '../events.ts';
import { mrConfigIdV1, mrConfigIdV2, mrConfigIdV3 } from '../measurements.ts';
import { issueCollateral } from '../simulated/collateral.ts';
import { SimulatedPlatform } from '../simulated/platform.ts';
import { parseQuote } from '../tdx-quote.ts';
import { attestedVm, composeText } from '../testing/attested-vm.ts';
import type { Expectations } from './input.ts';
import type { VerificationReport } from './report.ts';
import { verifyAttestation } from './verify.ts';

const vm = await attestedVm();
const trust = { root: vm.platform.root, collateral: vm.collateral };
const reportData = Buffer.from('nonce of the one who asks');
await vm.attestor.emit('app-event', Buffer.from('payload'));
test.after(() => vm[Symbol.asyncDispose]());

const failed = (report: VerificationReport): string[] => report.checks.filter(({ ok }) => !ok).map(({ name }) => name);

test('an attestation is accepted, in either version, whole or stripped', async () => {
  for (const version of [0, 1] as const)
    for (const stripped of [false, true]) {
      const attestation = await vm.attestor.attest(reportData, { version, stripped });
      const { quote, eventLog } = await decodeAttestation(attestation);
      assert.ok(quote.length > 0 && eventLog.length > 0);
      const expected: Expectations = {
        reportData,
        appCompose: composeText,
        appId: vm.compose.hash.subarray(0, 20),
        keyProvider: { name: 'none' },
        measurements: { mrtd: (await vm.attestor.measured()).registers.mrtd },
      };
      const report = await verifyAttestation({ attestation }, trust, expected);
      assert.deepEqual(failed(report), []);
      assert.ok(report.valid);
      assert.ok(report.simulated);
      assert.equal(report.claims?.composeHash, vm.compose.hash.toString('hex'));
      assert.equal(report.claims?.tcbStatus, 'UpToDate');
      assert.deepEqual(
        report.notChecked.map(({ name }) => name),
        ['os-image'],
      );
      assert.deepEqual(
        report.checks.map(({ name }) => name),
        [
          'format',
          'root',
          'quote',
          'tcb',
          'report-data',
          'event-log',
          'configuration',
          'compose-hash',
          'app-id',
          'key-provider',
          'measurements',
        ],
      );
    }
});

/** Result of the check of MRCONFIGID, or why it was not made. */
async function configurationOf(mrConfigId: Buffer, expected: Expectations = {}): Promise<boolean | string> {
  await using other = await attestedVm({ mrConfigId });
  const attestation = await other.attestor.attest(reportData);
  const trusted = { root: other.platform.root, collateral: other.collateral };
  const { checks, notChecked } = await verifyAttestation({ attestation }, trusted, expected);
  const named = ({ name }: { readonly name: string }) => name === 'configuration';
  return checks.find(named)?.ok ?? notChecked.find(named)!.why;
}

test('MRCONFIGID of every version is compared with what it stands for', async () => {
  const composeHash = parseAppCompose(composeText).hash;
  const app = { composeHash, appId: defaultAppId(composeHash), keyProviderId: Buffer.alloc(0) };
  assert.equal(await configurationOf(mrConfigIdV1(composeHash)), true);
  assert.equal(await configurationOf(mrConfigIdV1(Buffer.alloc(32))), false);
  assert.equal(await configurationOf(mrConfigIdV2({ ...app, keyProvider: 'none' })), true);
  assert.equal(await configurationOf(mrConfigIdV2({ ...app, keyProvider: 'kms' })), false);
  assert.equal(await configurationOf(Buffer.alloc(48)), 'MRCONFIGID is not set');
  assert.equal(await configurationOf(Buffer.alloc(48, 9)), false);
  const document = '{"app_id":"00"}';
  assert.match((await configurationOf(mrConfigIdV3(document))) as string, /none was expected/);
  assert.equal(await configurationOf(mrConfigIdV3(document), { mrConfig: document }), true);
  assert.equal(await configurationOf(mrConfigIdV3(document), { mrConfig: `${document} ` }), false);
  assert.equal(await configurationOf(mrConfigIdV1(composeHash), { mrConfig: document }), false);
});

test('what GetQuote gives is accepted', async () => {
  const { quote, eventLog, vmConfig } = await vm.attestor.getQuote(reportData);
  const log = parseEventLog(JSON.stringify(eventLog));
  const report = await verifyAttestation({ quote, eventLog: log, config: vmConfig }, trust, { reportData });
  assert.deepEqual(failed(report), []);
  const compose = await verifyAttestation({ quote, eventLog: log, config: vmConfig }, trust);
  assert.deepEqual(
    compose.notChecked.map(({ name }) => name),
    ['report-data', 'compose-hash', 'app-id', 'os-image', 'key-provider', 'measurements'],
  );
});

test('a changed quote is named', async () => {
  const attestation = await decodeAttestation(await vm.attestor.attest(reportData));
  for (const [offset, also] of [
    [48 + 136, []],
    [520 + 48, ['report-data']],
    [640, []],
  ] as const) {
    const quote = Buffer.from(attestation.quote);
    quote[offset] = quote[offset]! ^ 1;
    const changed = await encodeAttestation({ ...attestation, quote }, 0);
    assert.deepEqual(failed(await verifyAttestation({ attestation: changed }, trust)), ['quote', ...also]);
  }
});

test('a domain that its host can debug is refused', async () => {
  const attestation = await decodeAttestation(await vm.attestor.attest(reportData));
  const { report } = parseQuote(attestation.quote);
  const withAttributes = async (tdAttributes: string) => {
    const quote = vm.platform.quote({ ...report, tdAttributes: Buffer.from(tdAttributes, 'hex') });
    return verifyAttestation({ attestation: await encodeAttestation({ ...attestation, quote }, 0) }, trust);
  };
  assert.deepEqual(failed(await withAttributes('0000001000000000')), []);
  const debugged = await withAttributes('0100001000000000');
  assert.deepEqual(failed(debugged), ['quote']);
  assert.match(debugged.checks.find(({ name }) => name === 'quote')!.detail, /debug/i);
});

test('a changed event log is named', async () => {
  const attestation = await decodeAttestation(await vm.attestor.attest(reportData));
  const { eventLog, runtimeEvents } = attestation;
  const last = eventLog.length - 1;
  const replaced = (index: number, change: object): typeof eventLog =>
    eventLog.map((event, at) => (at === index ? { ...event, ...change } : event));
  const logs = {
    payload: replaced(last, { payload: Buffer.from('other') }),
    'payload without digest': replaced(last, { payload: Buffer.from('other'), digest: Buffer.alloc(0) }),
    'boot digest': replaced(1, { digest: Buffer.alloc(48, 9) }),
    'boot digest gone': replaced(1, { digest: Buffer.alloc(0) }),
    'event gone': eventLog.slice(0, -1),
    'event moved': [...eventLog.slice(0, -2), eventLog[last]!, eventLog[last - 1]!],
    'event hidden behind another type': replaced(last, { eventType: 1 }),
    'register that is not there': replaced(last, { imr: 7 }),
  };
  for (const [name, log] of Object.entries(logs)) {
    const changed = await encodeAttestation({ ...attestation, eventLog: log }, 0);
    const report = await verifyAttestation({ attestation: changed }, trust);
    assert.deepEqual(failed(report), ['event-log'], name);
    assert.ok(!report.valid);
  }
  const fewer = await encodeAttestation({ ...attestation, runtimeEvents: runtimeEvents.slice(1) }, 0);
  assert.deepEqual(failed(await verifyAttestation({ attestation: fewer }, trust)), ['event-log']);
});

test('another app than expected is named', async () => {
  const attestation = await vm.attestor.attest(reportData);
  const verify = async (expected: Expectations): Promise<string[]> =>
    failed(await verifyAttestation({ attestation }, trust, expected));
  assert.deepEqual(await verify({ appCompose: `${composeText} ` }), ['compose-hash']);
  assert.deepEqual(await verify({ composeHash: Buffer.alloc(32) }), ['compose-hash']);
  assert.deepEqual(await verify({ appId: Buffer.alloc(20) }), ['app-id']);
  assert.deepEqual(await verify({ osImageHash: Buffer.alloc(32) }), ['os-image']);
  assert.deepEqual(await verify({ keyProvider: { name: 'kms' } }), ['key-provider']);
  assert.deepEqual(await verify({ reportData: Buffer.from('another nonce') }), ['report-data']);
  assert.deepEqual(await verify({ measurements: { rtmr1: Buffer.alloc(48) } }), ['measurements']);
});

test('another root than the trusted one is named', async () => {
  const attestation = await vm.attestor.attest(reportData);
  const other = SimulatedPlatform.create();
  const report = await verifyAttestation({ attestation }, { root: other.root, collateral: issueCollateral(other) });
  assert.deepEqual(failed(report), ['root']);
  const intel = await verifyAttestation({ attestation }, { collateral: vm.collateral });
  assert.deepEqual(failed(intel), ['root']);
  assert.ok(intel.simulated && intel.checks.every(({ simulated }) => simulated));
  assert.match(intel.checks.at(1)?.detail ?? '', /Simulated.*trusted is .*Intel/s);
});

test('expired collateral, a foreign one or none do not do', async () => {
  const attestation = await vm.attestor.attest(reportData);
  const later = new Date(Date.now() + 40 * 24 * 3600 * 1000);
  assert.deepEqual(failed(await verifyAttestation({ attestation }, { ...trust, now: later })), ['quote']);
  assert.deepEqual(failed(await verifyAttestation({ attestation }, { root: trust.root })), ['quote']);
  const collateral = issueCollateral(SimulatedPlatform.create());
  assert.deepEqual(failed(await verifyAttestation({ attestation }, { root: trust.root, collateral })), ['quote']);
});

test('a TCB that is not accepted is named', async () => {
  const attestation = await vm.attestor.attest(reportData);
  assert.deepEqual(failed(await verifyAttestation({ attestation }, { ...trust, acceptedTcb: [] })), ['tcb']);
});

test('an app cannot pass for another by events of its own', async () => {
  await using spoofer = await attestedVm({ platform: vm.platform });
  await spoofer.attestor.emit('app-id', Buffer.alloc(20, 0xee));
  await spoofer.attestor.emit('compose-hash', Buffer.alloc(32, 0xee));
  const attestation = await spoofer.attestor.attest(reportData);
  const report = await verifyAttestation({ attestation }, trust, { appCompose: composeText });
  assert.ok(report.valid);
  assert.equal(report.claims?.appId, spoofer.compose.hash.toString('hex', 0, 20));
});

test('what is no attestation is refused by its format', async () => {
  for (const bytes of [Buffer.alloc(0), Buffer.of(0), Buffer.of(0x80), Buffer.of(7), Buffer.alloc(100, 0xdf)]) {
    const report = await verifyAttestation({ attestation: bytes }, trust);
    assert.deepEqual(failed(report), ['format']);
    assert.equal(report.claims, null);
    assert.ok(!report.valid);
  }
});

test('an app-compose.json and a hash that are expected together are both checked', async () => {
  const attestation = await vm.attestor.attest(reportData);
  const check = async (composeHash: Buffer) =>
    failed(await verifyAttestation({ attestation }, trust, { appCompose: composeText, composeHash }));
  assert.deepEqual(await check(vm.compose.hash), []);
  assert.deepEqual(await check(Buffer.alloc(32)), ['compose-hash']);
});

test('report data that the prover puts beside a quote is compared, and is no expectation', async () => {
  const { quote, eventLog, vmConfig } = await vm.attestor.getQuote(reportData);
  const input = { quote, eventLog: parseEventLog(eventLog), config: vmConfig };
  const own = await verifyAttestation({ ...input, reportData }, trust);
  assert.equal(own.notChecked[0]?.name, 'report-data');
  assert.deepEqual(failed(await verifyAttestation({ ...input, reportData: Buffer.of(1) }, trust)), ['report-data']);
});
