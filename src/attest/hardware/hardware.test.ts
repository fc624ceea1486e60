import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { measureBoot } from '../boot-measurements.ts';
import { FormatError } from '../byte-reader.ts';
import { runtimeEventDigest, type TdxEvent, toTdxEvent } from '../events.ts';
import { sha384 } from '../hash.ts';
import { replay } from '../rtmr.ts';
import { issueCollateral } from '../simulated/collateral.ts';
import { SimulatedPlatform } from '../simulated/platform.ts';
import { SimulatedTdxQuoter } from '../simulated/tdx-quoter.ts';
import { verifyAttestation } from '../verify/verify.ts';
import { parseCcel } from './ccel.ts';
import { TsmQuoter } from './tsm-quoter.ts';

/**
 * The files that the kernel of a TDX guest has, as they are after a quote was asked for. There is no such machine here:
 * the quote in them is a simulated platform's, and the files do nothing.
 */
const platform = SimulatedPlatform.create();
const { mrtd, bootEvents } = measureBoot({
  firmware: sha384('firmware'),
  kernel: sha384('kernel'),
  initramfs: sha384('initramfs'),
  commandLine: '',
  rootfs: sha384('rootfs'),
  hardware: '',
});
const ready = { event: 'system-ready', payload: Buffer.alloc(0) };
const reportData = Buffer.alloc(64, 9);
const root = await mkdtemp(join(tmpdir(), 'berth-tsm-'));
after(() => rm(root, { recursive: true }));

const recorded = new SimulatedTdxQuoter(platform, { mrtd, bootEvents });
await recorded.extend(runtimeEventDigest(ready));
const tsm = 'sys/kernel/config/tsm/report/berth';
const register = 'sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384';
const files: Record<string, string | Buffer> = {
  [`${tsm}/provider`]: 'tdx_guest\n',
  [`${tsm}/inblob`]: '',
  [`${tsm}/outblob`]: await recorded.quote(reportData),
  [register]: Buffer.alloc(48),
  'sys/firmware/acpi/tables/data/CCEL': ccel(bootEvents),
};
for (const [name, content] of Object.entries(files)) {
  await mkdir(dirname(join(root, name)), { recursive: true });
  await writeFile(join(root, name), content);
}

test('what the files say is a quote that its event log fits', async () => {
  const quoter = await TsmQuoter.open(root);
  assert.deepEqual(
    quoter.bootEvents().map(({ imr, digest }) => [imr, digest]),
    bootEvents.map(({ imr, digest }) => [imr, digest]),
  );
  const eventLog = [...quoter.bootEvents(), toTdxEvent(ready)];
  const report = await verifyAttestation(
    { quote: await quoter.quote(reportData), eventLog, config: '' },
    { root: platform.root, collateral: issueCollateral(platform) },
    { reportData },
  );
  assert.ok(report.valid, JSON.stringify(report.checks));
  assert.deepEqual(await readFile(join(root, tsm, 'inblob')), reportData);
});

test('a quote of what another reader asked for is not taken', async () => {
  const quoter = await TsmQuoter.open(root);
  await assert.rejects(quoter.quote(Buffer.alloc(64)), /other report data/);
});

test('a register is extended by writing to it', async () => {
  const quoter = await TsmQuoter.open(root);
  await quoter.extend(sha384('event'));
  assert.deepEqual(await readFile(join(root, register)), sha384('event'));
});

test('another platform is refused', async () => {
  const provider = join(root, tsm, 'provider');
  await writeFile(provider, 'sev_guest\n');
  await assert.rejects(TsmQuoter.open(root), /sev_guest/);
  await writeFile(provider, 'tdx_guest\n');
});

test('damaged firmware logs are refused or read, never worse', () => {
  const valid = ccel(bootEvents);
  assert.deepEqual(replay(parseCcel(valid)), replay(bootEvents));
  assert.equal(parseCcel(Buffer.concat([valid.subarray(0, -100), Buffer.alloc(50, 0xff)])).length, bootEvents.length);
  const read = (input: Buffer): void => {
    try {
      parseCcel(input);
    } catch (error) {
      assert.ok(error instanceof FormatError, String(error));
    }
  };
  fc.assert(
    fc.property(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
      const changed = Buffer.from(valid);
      changed[at] = byte;
      read(changed);
      read(valid.subarray(0, at));
    }),
    { numRuns: 500 },
  );
  assert.throws(() => parseCcel(Buffer.alloc(100)), FormatError);
});

/** A firmware's log of events: two banks, an event that is not measured, and the rest of the memory. */
function ccel(events: readonly TdxEvent[]): Buffer {
  const u32 = (number: number): Buffer => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(number);
    return bytes;
  };
  const header = Buffer.from('Spec ID Event03\0');
  const event = (index: number, type: number, digest: Buffer, payload: Buffer): Buffer =>
    Buffer.concat([
      u32(index),
      u32(type),
      u32(2),
      Buffer.of(0x0b, 0),
      Buffer.alloc(32),
      Buffer.of(0x0c, 0),
      digest,
      u32(payload.length),
      payload,
    ]);
  return Buffer.concat([
    u32(1),
    u32(3),
    Buffer.alloc(20),
    u32(header.length),
    header,
    event(1, 3, Buffer.alloc(48), Buffer.from('not measured')),
    ...events.map(({ imr, eventType, digest, payload }) => event(imr + 1, eventType, digest, payload)),
    Buffer.alloc(100),
  ]);
}
