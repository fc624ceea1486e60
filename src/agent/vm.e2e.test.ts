import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { issueCollateral } from '../attest/simulated/collateral.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { verifyPeer } from '../attest/tls/peer.ts';
import type { Expectations, VerifyInput } from '../attest/verify/input.ts';
import { verifyAttestation } from '../attest/verify/verify.ts';
import { certificateFromPem } from '../attest/x509/pem.ts';
import { AgentVm, type VmProgram } from './testing/vm.ts';
import type { VmAppOutput } from './testing/vm-app.ts';
import { readVerifyRequest } from './verify-request.ts';

const compose = '{"manifest_version":2,"name":"vm app","runner":"bash","public_sysinfo":true}';

describe('an app in a VM', () => {
  let vm: AgentVm;
  let agent: VmProgram;
  let first: VmAppOutput;
  before(async () => {
    vm = await AgentVm.boot(compose);
    await vm.upload('/app', { 'app.cjs': await bundleApp() });
    agent = await vm.startAgent();
    first = await runApp('started');
  });
  after(() => vm[Symbol.asyncDispose]());

  async function runApp(event: string): Promise<VmAppOutput> {
    // As a user without any rights: the socket is for everybody in the VM.
    const output = await vm.run(`setpriv --reuid 1000 --regid 1000 --clear-groups node /app/app.cjs ${event}`, 180_000);
    return JSON.parse(output) as VmAppOutput;
  }

  const trust = (platform = vm.platform) => ({ root: platform.root, collateral: issueCollateral(platform) });

  async function failures(input: VerifyInput, expected: Expectations = {}, platform = vm.platform): Promise<string[]> {
    const { checks } = await verifyAttestation(input, trust(platform), expected);
    return checks.filter(({ ok }) => !ok).map(({ name }) => name);
  }

  test('gets keys, signatures and a quote from the published SDK', () => {
    assert.equal(first.version, '0.5.8');
    assert.match(first.key, /^[0-9a-f]{64}$/);
    assert.equal(first.signatureIsValid, true);
    const report = Buffer.from(first.quote.quote, 'hex').subarray(48, 632);
    const registers = [328, 376, 424, 472].map((at) => report.subarray(at, at + 48).toString('hex'));
    assert.deepEqual(first.replayed, registers);
    assert.equal(first.info.tcb_info.rtmr3, registers[3]);
    assert.equal(first.quote.vm_config, '{"spec_version":1}');
  });

  test('an outside verifier accepts its attestation and its quote', async () => {
    const expected = { reportData: Buffer.from('from the VM'), appCompose: compose };
    assert.deepEqual(await failures({ attestation: Buffer.from(first.attestation, 'hex') }, expected), []);
    assert.deepEqual(await failures(readVerifyRequest(first.quote).input, expected), []);
  });

  test('and names what is wrong with one that was tampered with', async () => {
    const { input } = readVerifyRequest(first.quote);
    assert.ok('quote' in input);
    const quote = Buffer.from(input.quote);
    quote[48 + 472]! ^= 1;
    assert.ok((await failures({ ...input, quote })).includes('quote'));
    const eventLog = input.eventLog.map((event) =>
      event.event === 'started' ? { ...event, event: 'stopped' } : event,
    );
    assert.deepEqual(await failures({ ...input, eventLog }), ['event-log']);
    assert.deepEqual(await failures(input, { appCompose: `${compose} ` }), ['compose-hash']);
    assert.ok((await failures(input, {}, SimulatedPlatform.create())).includes('root'));
  });

  test("the certificate of its TLS server attests the server's key", async () => {
    const report = await verifyPeer(certificateFromPem(first.peer), trust());
    assert.equal(report.valid, true, JSON.stringify(report.checks));
  });

  test('the host sees the machine through its own socket, and the public port', async () => {
    const info = JSON.parse(await vm.fetch({ unix: '/run/dstack/guest.sock' }, '/api/SysInfo')) as {
      num_cpus: number;
      disks: object[];
    };
    assert.equal(info.num_cpus, 1);
    assert.equal(info.disks.length, 1);
    const { app_id: appId } = JSON.parse(await vm.fetch({ port: 8090 }, '/prpc/Worker.Info')) as { app_id: string };
    assert.equal(appId, first.info.app_id);
    assert.match(await vm.fetch({ port: 8090 }, '/metrics'), /^disk_total_size\{name="[^"]+",mount_point="\/"\} \d+$/m);
  });

  test('the socket of the host is closed to the app', async () => {
    const { exitCode, stderr } = await vm.try(
      'setpriv --reuid 1000 --regid 1000 --clear-groups curl -sS --unix-socket /run/dstack/guest.sock http://x/api/Info',
    );
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /Permission denied|Couldn't connect/);
  });

  test('an agent that is killed and started again has the same keys, and the events of this boot', async () => {
    await agent.kill();
    agent = await vm.startAgent();
    const again = await runApp('again');
    assert.equal(again.key, first.key);
    assert.equal(again.info.app_id, first.info.app_id);
    const events = (JSON.parse(again.quote.event_log) as { event: string }[]).map(({ event }) => event);
    assert.deepEqual(events.slice(-3), ['system-ready', 'started', 'again']);
    assert.deepEqual(
      await failures({ attestation: Buffer.from(again.attestation, 'hex') }, { appCompose: compose }),
      [],
    );
  });

  test('a second agent beside it is refused', async () => {
    const { exitCode, stderr } = await vm.try('node /dstack/agent.cjs /dstack/agent.json');
    assert.equal(exitCode, 1);
    assert.match(stderr, /something listens/);
  });
});

/** The program with the SDK, as one file. */
async function bundleApp(): Promise<Buffer> {
  const scratch = await mkdtemp(join(tmpdir(), 'berth-vm-app-'));
  const outfile = join(scratch, 'app.cjs');
  const entry = fileURLToPath(new URL('testing/vm-app.ts', import.meta.url));
  await build({ entryPoints: [entry], outfile, bundle: true, minify: true, platform: 'node', format: 'cjs' });
  const content = await readFile(outfile);
  await rm(scratch, { recursive: true, force: true });
  return content;
}
