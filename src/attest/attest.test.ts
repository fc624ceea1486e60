import assert from 'node:assert/strict';
import { appendFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { BerthError } from '../common/errors.ts';
import { Attestor } from './attest.ts';
import { decodeAttestation } from './attestation.ts';
import { measureBoot, measureFile } from './boot-measurements.ts';
import { parseEventLog, runtimeEventDigest } from './events.ts';
import { sha384 } from './hash.ts';
import type { Quoter } from './quoter.ts';
import { replay } from './rtmr.ts';
import { SimulatedPlatform } from './simulated/platform.ts';
import { SimulatedTdxQuoter } from './simulated/tdx-quoter.ts';
import { attestedInfo } from './tcb-info.ts';
import { parseQuote } from './tdx-quote.ts';
import { attestedVm } from './testing/attested-vm.ts';

const platform = SimulatedPlatform.create();
const newQuoter = (): SimulatedTdxQuoter =>
  new SimulatedTdxQuoter(platform, { mrtd: Buffer.alloc(48), bootEvents: [] });
const ready = { event: 'system-ready', payload: Buffer.alloc(0) };

const directory = await mkdtemp(join(tmpdir(), 'berth-attestor-'));
test.after(() => rm(directory, { recursive: true }));
let count = 0;
const logPath = (): string => join(directory, `${++count}.log`);
const open = (eventLogPath: string, quoter: Quoter = newQuoter()): Promise<Attestor> =>
  Attestor.open({ quoter, eventLogPath, vmConfig: '' });

test('events are measured, and are there after a restart of the agent', async () => {
  const path = logPath();
  const first = await open(path);
  await first.measure(ready);
  await first.emit('one', Buffer.from([1]));
  await first.emit('two', Buffer.alloc(0));
  const before = await first.getQuote(Buffer.alloc(0));
  const again = await open(path);
  await again.emit('three', Buffer.from('3'));
  assert.deepEqual(
    again.runtimeEvents().map(({ event }) => event),
    ['system-ready', 'one', 'two', 'three'],
  );
  const { rtmrs } = parseQuote((await again.getQuote(Buffer.alloc(0))).quote).report;
  assert.deepEqual(replay(again.events()), rtmrs);
  assert.notDeepEqual(parseQuote(before.quote).report.rtmrs, rtmrs);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test('the log is in its published form', async () => {
  const path = logPath();
  const attestor = await open(path);
  await attestor.measure({ event: 'app-id', payload: Buffer.from('deadbeef', 'hex') });
  await attestor.measure({ event: 'x', payload: Buffer.alloc(0), version: 2 });
  assert.equal(
    await readFile(path, 'utf8'),
    '{"event":"app-id","payload":"3q2+7w=="}\n{"event":"x","payload":"","version":2}\n',
  );
});

test('an event that could not be logged is not measured', async () => {
  const path = logPath();
  const attestor = await open(path);
  await attestor.measure(ready);
  const before = await readFile(path);
  // A directory in the file's place cannot be written to.
  await rm(path);
  await mkdir(path);
  await assert.rejects(attestor.emit('lost', Buffer.alloc(0)));
  await rm(path, { recursive: true });
  await writeFile(path, before);
  await attestor.emit('kept', Buffer.alloc(0));
  assert.deepEqual(
    (await open(path)).runtimeEvents().map(({ event }) => event),
    ['system-ready', 'kept'],
  );
  assert.deepEqual((await attestor.measured()).registers.rtmrs, replay(attestor.events()));
});

test('a line that a crash cut off was not measured', async () => {
  const path = logPath();
  await (await open(path)).measure(ready);
  await appendFile(path, '{"event":"half","payl');
  const attestor = await open(path);
  await attestor.emit('whole', Buffer.alloc(0));
  assert.deepEqual(
    (await open(path)).runtimeEvents().map(({ event }) => event),
    ['system-ready', 'whole'],
  );
});

test('registers of hardware keep what was measured; the log must fit them', async () => {
  const path = logPath();
  const quoter = Object.assign(newQuoter(), { keepsRegisters: true });
  await (await open(path, quoter)).measure(ready);
  await open(path, quoter);
  assert.deepEqual((await quoter.measurements()).rtmrs, replay([{ imr: 3, digest: runtimeEventDigest(ready) }]));
  // Logged, and not measured when the agent was killed.
  await appendFile(path, '{"event":"late","payload":""}\n');
  const attestor = await open(path, quoter);
  assert.deepEqual((await attestor.measured()).registers.rtmrs, replay(attestor.events()));
  await appendFile(path, '{"event":"a","payload":""}\n{"event":"b","payload":""}\n');
  await assert.rejects(open(path, quoter), /does not fit/);
});

test('an event that the TEE failed to measure is measured before the next one, and once', async () => {
  for (const failsAfterwards of [false, true]) {
    const quoter = Object.assign(newQuoter(), { keepsRegisters: true });
    const extend = quoter.extend.bind(quoter);
    const path = logPath();
    const attestor = await open(path, quoter);
    await attestor.measure(ready);
    quoter.extend = async (digest) => {
      if (failsAfterwards) await extend(digest);
      quoter.extend = extend;
      throw new Error('the TEE does not answer');
    };
    await assert.rejects(attestor.emit('one', Buffer.alloc(0)), /does not answer/);
    await attestor.emit('two', Buffer.alloc(0));
    const { quote } = await attestor.getQuote(Buffer.alloc(0));
    assert.deepEqual(parseQuote(quote).report.rtmrs, replay(attestor.events()));
    assert.deepEqual(
      (await open(path, quoter)).runtimeEvents().map(({ event }) => event),
      ['system-ready', 'one', 'two'],
    );
  }
});

test('Info shows the registers that its event log gives, whatever is emitted meanwhile', async (t) => {
  await using vm = await attestedVm({ platform });
  const measurements = SimulatedTdxQuoter.prototype.measurements;
  // As a TEE that does not answer at once.
  t.mock.method(SimulatedTdxQuoter.prototype, 'measurements', async function (this: SimulatedTdxQuoter) {
    const measured = await measurements.call(this);
    await setImmediate();
    return measured;
  });
  const emitted = Array.from({ length: 5 }, (_, index) => vm.attestor.emit(`event ${index}`, Buffer.alloc(0)));
  const infos = await Promise.all(Array.from({ length: 5 }, () => attestedInfo(vm.attestor, vm.compose)));
  await Promise.all(emitted);
  for (const { tcbInfo } of infos) {
    const tcb = JSON.parse(tcbInfo) as { rtmr3: string; event_log: unknown };
    assert.equal(tcb.rtmr3, replay(parseEventLog(tcb.event_log))[3].toString('hex'));
  }
});

test('apps and the boot measure at their own time', async () => {
  const attestor = await open(logPath());
  const code = (wanted: string) => (error: BerthError) => error.code === wanted;
  await assert.rejects(attestor.emit('early', Buffer.alloc(0)), code('conflict'));
  await attestor.measure(ready);
  await assert.rejects(attestor.measure({ event: 'app-id', payload: Buffer.alloc(20) }), /after the boot/);
  await assert.rejects(attestor.emit('x'.repeat(1025), Buffer.alloc(0)), code('invalid_argument'));
  await assert.rejects(attestor.emit('x', Buffer.alloc(65537)), code('invalid_argument'));
  await assert.rejects(attestor.getQuote(Buffer.alloc(65)), code('invalid_argument'));
  await assert.rejects(attestor.attest(Buffer.alloc(65)), code('invalid_argument'));
  await attestor.emit('', Buffer.alloc(65536));
});

test('a log that is full takes no more events, and is not damaged', async () => {
  const attestor = await open(logPath());
  await attestor.measure(ready);
  const payload = Buffer.alloc(65536);
  for (let index = 0; index < 4; index++) await attestor.emit('big', payload);
  await assert.rejects(attestor.emit('big', payload), (error: BerthError) => error.code === 'quota_exceeded');
  while (attestor.runtimeEvents().length < 2048) await attestor.emit('small', Buffer.alloc(1));
  await assert.rejects(attestor.emit('small', payload), (error: BerthError) => error.code === 'quota_exceeded');
  for (const version of [0, 1] as const) {
    const { runtimeEvents } = await decodeAttestation(await attestor.attest(Buffer.alloc(0), { version }));
    assert.equal(runtimeEvents.length, 2048);
  }
});

test('events and quotes at once: every log fits its quote', async () => {
  const attestor = await open(logPath());
  await attestor.measure(ready);
  const quotes = Array.from({ length: 8 }, async (_, index) => {
    await attestor.emit(`event ${index}`, Buffer.alloc(index));
    return attestor.attest(Buffer.from([index]));
  });
  for (const bytes of await Promise.all(quotes)) {
    const { quote, eventLog } = await decodeAttestation(bytes);
    assert.deepEqual(parseQuote(quote).report.rtmrs, replay(eventLog));
  }
});

test('version 2 events go into an attestation of version 1', async () => {
  await using vm = await attestedVm({ platform, eventLogVersion: 2 });
  await vm.attestor.emit('app', Buffer.from('x'));
  assert.ok(vm.attestor.runtimeEvents().every(({ version }) => version === 2));
  const { quote, eventLog } = await decodeAttestation(await vm.attestor.attest(Buffer.alloc(0)));
  assert.deepEqual(parseQuote(quote).report.rtmrs, replay(eventLog));
  await assert.rejects(vm.attestor.attest(Buffer.alloc(0), { version: 0 }), RangeError);
});

test('a boot is measured from its files, and every part of it counts', async () => {
  const path = join(directory, 'kernel');
  await writeFile(path, 'content');
  const kernel = await measureFile(path);
  assert.deepEqual(kernel, sha384('content'));
  const boot = { firmware: kernel, kernel, initramfs: kernel, commandLine: 'a', rootfs: kernel, hardware: 'b' };
  const registers = (change: Partial<typeof boot>): string[] => {
    const { mrtd, bootEvents } = measureBoot({ ...boot, ...change });
    return [mrtd, ...replay(bootEvents)].map((register) => register.toString('hex'));
  };
  const changed = (change: Partial<typeof boot>): number[] =>
    registers(change).flatMap((register, index) => (register === registers({})[index] ? [] : [index]));
  const other = sha384('other');
  assert.deepEqual(changed({ firmware: other }), [0]);
  assert.deepEqual(changed({ hardware: 'x' }), [1]);
  assert.deepEqual(changed({ kernel: other }), [2]);
  assert.deepEqual(changed({ initramfs: other }), [2]);
  assert.deepEqual(changed({ commandLine: 'x' }), [3]);
  assert.deepEqual(changed({ rootfs: other }), [3]);
});

test('Info says what was measured', async () => {
  await using vm = await attestedVm({ platform });
  const info = await attestedInfo(vm.attestor, vm.compose);
  const tcb = JSON.parse(info.tcbInfo) as Record<string, string> & { event_log: { digest: string }[] };
  const { mrtd, rtmrs } = (await vm.attestor.measured()).registers;
  assert.equal(tcb.mrtd, mrtd.toString('hex'));
  assert.deepEqual(
    [tcb.rtmr0, tcb.rtmr1, tcb.rtmr2, tcb.rtmr3],
    rtmrs.map((register) => register.toString('hex')),
  );
  assert.equal(tcb.app_compose, vm.compose.text);
  assert.equal(tcb.compose_hash, vm.compose.hash.toString('hex'));
  assert.equal(tcb.device_id, 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  assert.equal(tcb.event_log.length, 5 + 8);
  assert.ok(tcb.event_log.every(({ digest }) => digest.length === 96));
  assert.equal(info.keyProviderInfo, '{"name":"none","id":""}');
  assert.deepEqual(info.appId, vm.compose.hash.subarray(0, 20));
});
