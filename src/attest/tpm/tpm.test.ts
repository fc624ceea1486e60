import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { appKeysFromSeed } from '../app-keys.ts';
import { Attestor } from '../attest.ts';
import { decodeAttestation, encodeAttestation } from '../attestation.ts';
import { measureBoot } from '../boot-measurements.ts';
import { FormatError } from '../byte-reader.ts';
import { parseEventLog } from '../events.ts';
import { sha384 } from '../hash.ts';
import { replay } from '../rtmr.ts';
import { checkQuote } from '../testing/check-quote.ts';
import { startSwtpm } from '../testing/swtpm.ts';
import type { VerificationReport } from '../verify/report.ts';
import { verifyAttestation } from '../verify/verify.ts';
import { registerPcrs } from './registers.ts';
import { TpmTools } from './tools.ts';
import { parseAttest, parseSignature, parseTpmQuote } from './tpm-quote.ts';
import { TpmQuoter } from './tpm-quoter.ts';
import { TpmSeal, tpmSeed } from './tpm-seal.ts';

const tpm = await startSwtpm();
const directory = await mkdtemp(join(tmpdir(), 'berth-tpm-test-'));
after(async () => {
  await tpm[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});
const tools = new TpmTools(tpm.tcti);
const boot = (kernel = 'kernel'): ReturnType<typeof measureBoot> =>
  measureBoot({
    firmware: sha384(''),
    kernel: sha384(kernel),
    initramfs: sha384('initramfs'),
    commandLine: 'quiet',
    rootfs: sha384('rootfs'),
    hardware: '{}',
  });
const reportData = Buffer.alloc(64, 7);
const ready = { event: 'system-ready', payload: Buffer.alloc(0) };
let logs = 0;

async function bootedVm(kernel?: string): Promise<{ readonly quoter: TpmQuoter; readonly attestor: Attestor }> {
  const quoter = await TpmQuoter.open(tools, boot(kernel).bootEvents);
  const eventLogPath = join(directory, `${++logs}.log`);
  const attestor = await Attestor.open({ quoter, eventLogPath, vmConfig: '{}' });
  await attestor.measure({ event: 'compose-hash', payload: Buffer.alloc(32, 5) });
  await attestor.measure(ready);
  return { quoter, attestor };
}

const failed = (report: VerificationReport): string[] => report.checks.filter(({ ok }) => !ok).map(({ name }) => name);

test('a quote over the measured boot is accepted here, and by tpm2-tools', async () => {
  await tpm.reset();
  const { quoter, attestor } = await bootedVm();
  await attestor.emit('app', Buffer.from('x'));
  const attestation = await attestor.attest(reportData);
  const report = await verifyAttestation(
    { attestation },
    { attestationKey: quoter.publicKey },
    { reportData, composeHash: Buffer.alloc(32, 5), measurements: { rtmr1: replay(boot().bootEvents)[1] } },
  );
  assert.deepEqual(failed(report), []);
  assert.ok(report.valid && report.simulated);
  assert.equal(report.claims?.pcrs?.[14], replay(attestor.events())[3].toString('hex'));

  const { quote } = await decodeAttestation(attestation);
  await checkQuote(quote, reportData);
  await assert.rejects(checkQuote(quote, Buffer.alloc(64)), /tpm2_checkquote/);
});

test('what is changed is named', async () => {
  await tpm.reset();
  const { quoter, attestor } = await bootedVm();
  const trust = { attestationKey: quoter.publicKey };
  const good = await decodeAttestation(await attestor.attest(reportData));
  const verify = async (change: Partial<typeof good>, trusted = trust): Promise<string[]> =>
    failed(
      await verifyAttestation({ attestation: await encodeAttestation({ ...good, ...change }, 1) }, trusted, {
        reportData: change.reportData ?? reportData,
      }),
    );
  assert.deepEqual(await verify({}), []);
  assert.deepEqual(await verify({}, { attestationKey: Buffer.alloc(91) }), ['root']);
  assert.deepEqual(await verify({ reportData: Buffer.alloc(64, 8) }), ['report-data']);
  assert.deepEqual(await verify({ eventLog: good.eventLog.slice(0, -1) }), ['event-log']);
  const swapped = Buffer.from(good.quote);
  swapped[swapped.length - 1]! ^= 1;
  assert.deepEqual(await verify({ quote: swapped }), ['quote', 'event-log']);
  await fc.assert(
    fc.asyncProperty(fc.nat(good.quote.length * 8 - 1), async (bit) => {
      const quote = Buffer.from(good.quote);
      quote[bit >> 3]! ^= 1 << (bit & 7);
      assert.notDeepEqual(await verify({ quote }), []);
      try {
        const { attest, signature } = parseTpmQuote(quote);
        parseAttest(attest);
        parseSignature(signature);
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    }),
    { numRuns: 300 },
  );
});

test('what GetQuote gives is accepted with the report data that was asked for', async () => {
  await tpm.reset();
  const { quoter, attestor } = await bootedVm();
  const { quote, eventLog } = await attestor.getQuote(Buffer.from('nonce'));
  const verify = async (wanted: Buffer | null): Promise<string[]> =>
    failed(
      await verifyAttestation(
        { quote, eventLog: parseEventLog(eventLog), config: '' },
        { attestationKey: quoter.publicKey },
        wanted === null ? {} : { reportData: wanted },
      ),
    );
  assert.deepEqual(await verify(null), []);
  assert.deepEqual(await verify(Buffer.from('nonce')), []);
  assert.deepEqual(await verify(Buffer.from('other')), ['report-data']);
});

test('a boot is measured once, until the machine is reset', async () => {
  await tpm.reset();
  // As a crash between two events leaves it.
  await TpmQuoter.open(tools, boot().bootEvents.slice(0, 2));
  const { attestor } = await bootedVm();
  assert.deepEqual((await attestor.measured()).registers.rtmrs, replay(attestor.events()));
  await assert.rejects(TpmQuoter.open(tools, boot('another').bootEvents), /another boot/);
  await tpm.reset();
  const again = await TpmQuoter.open(tools, boot('another').bootEvents);
  assert.deepEqual((await again.measurements()).rtmrs, replay(boot('another').bootEvents));
});

test('the attestation key stays the same', async () => {
  const before = (await TpmQuoter.open(tools, boot('another').bootEvents)).publicKey;
  await tpm.reset();
  assert.deepEqual((await TpmQuoter.open(tools, boot().bootEvents)).publicKey, before);
  await using other = await startSwtpm();
  const elsewhere = await TpmQuoter.open(new TpmTools(other.tcti), boot().bootEvents);
  assert.notDeepEqual(elsewhere.publicKey, before);
});

test('a sealed secret opens on its TPM, while its PCRs are the same', async () => {
  await tpm.reset();
  const secret = Buffer.from('a root of keys');
  const bound = new TpmSeal(tools, [8, 9]);
  const sealed = await bound.seal(secret);
  assert.ok(!sealed.includes(secret));
  const free = await new TpmSeal(tools).seal(secret);
  assert.deepEqual(await bound.unseal(sealed), secret);
  await tpm.reset();
  assert.deepEqual(await bound.unseal(sealed), secret);
  await tools.extendPcr(9, Buffer.alloc(48, 1));
  await assert.rejects(bound.unseal(sealed));
  await assert.rejects(new TpmSeal(tools).unseal(sealed), 'without the policy');
  assert.deepEqual(await new TpmSeal(tools).unseal(free), secret);
  await using other = await startSwtpm();
  await assert.rejects(new TpmSeal(new TpmTools(other.tcti)).unseal(free));
});

test('the keys of an app come from the TPM, at each boot, for this app alone', async () => {
  const seedOf = async (app: string): Promise<Buffer> => {
    await tpm.reset();
    await tools.extendPcr(registerPcrs[3], sha384(app));
    return tpmSeed(tools, registerPcrs);
  };
  const seed = await seedOf('app');
  assert.deepEqual(await seedOf('app'), seed);
  await assert.rejects(seedOf('other app'));
  const keys = await appKeysFromSeed(seed, { provider: 'tpm', providerId: 'aa' });
  assert.equal(keys.keyProvider.name, 'tpm');
});

test('a boot that was cut off before it wrote the seed does not keep the app from ever starting', async () => {
  await using cutOff = await startSwtpm();
  const its = new TpmTools(cutOff.tcti);
  await its.operation(({ run }) => run('tpm2_nvdefine', '-Q', '0x1500b17', '-C', 'o', '-s', '64'));
  const seed = await tpmSeed(its, registerPcrs);
  assert.equal(seed.length, 32);
  await cutOff.reset();
  assert.deepEqual(await tpmSeed(its, registerPcrs), seed);
  const overwrite = its.operation(({ runWith }) =>
    runWith('00'.repeat(32), 'tpm2_nvwrite', '0x1500b17', '-i', '-', '-P', 'pcr:sha384:8,9,12,14'),
  );
  await assert.rejects(overwrite, /NV access locked/);
});
