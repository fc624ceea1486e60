import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PublicKey } from '@solana/web3.js';
import { build } from 'esbuild';
import { recoverMessageAddress } from 'viem';
import { issueCollateral } from '../attest/simulated/collateral.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { verifyPeer } from '../attest/tls/peer.ts';
import type { Expectations, VerifyInput } from '../attest/verify/input.ts';
import { verifyAttestation } from '../attest/verify/verify.ts';
import { certificateFromPem } from '../attest/x509/pem.ts';
import { guideExample } from './testing/guide.ts';
import { AgentVm, type VmProgram } from './testing/vm.ts';
import type { VmAppOutput } from './testing/vm-app.ts';
import type { VmWallets } from './testing/vm-wallets.ts';
import { readVerifyRequest } from './verify-request.ts';

const app = { manifest_version: 2, name: 'vm app', runner: 'bash', public_sysinfo: true, key_provider: 'local' };
const compose = JSON.stringify(app);
const other = '/run/other';

describe('an app in a VM', () => {
  let vm: AgentVm;
  let agent: VmProgram;
  let first: VmAppOutput;
  before(async () => {
    vm = await AgentVm.boot(compose);
    // The settings that the guide shows.
    const config = JSON.parse(await guideExample('"app_compose"')) as Record<string, unknown>;
    await vm.install('/dstack', { compose, config });
    await vm.upload('/app', {
      'app.cjs': await bundleProgram('vm-app.ts'),
      'wallets.cjs': await bundleProgram('vm-wallets.ts'),
    });
    agent = await vm.startAgent();
    first = await runApp('started');
  });
  after(() => vm[Symbol.asyncDispose]());

  /** As a user without any rights: the socket is for everybody in the VM. */
  const asUser = (command: string) => `setpriv --reuid 1000 --regid 1000 --clear-groups ${command}`;

  async function runApp(event: string, socket = ''): Promise<VmAppOutput> {
    return JSON.parse(await vm.run(asUser(`node /app/app.cjs ${event} ${socket}`), 180_000)) as VmAppOutput;
  }

  const trust = (platform = vm.platform) => ({ root: platform.root, collateral: issueCollateral(platform) });

  /** Names of the checks that fail for a verifier outside of the VM. */
  async function failures(input: VerifyInput, expected: Expectations = {}, platform = vm.platform): Promise<string[]> {
    const { checks } = await verifyAttestation(input, trust(platform), expected);
    return checks.filter(({ ok }) => !ok).map(({ name }) => name);
  }

  /** What `GetQuote` gave the program. */
  function quoteOf({ quote }: VmAppOutput) {
    const { input } = readVerifyRequest(quote);
    assert.ok('quote' in input);
    return input;
  }

  test('obtains keys, signatures and a quote with the published SDK', () => {
    assert.equal(first.version, '0.5.8');
    assert.match(first.key, /^[0-9a-f]{64}$/);
    assert.equal(first.signatureIsValid, true);
    const report = Buffer.from(first.quote.quote, 'hex').subarray(48, 632);
    const registers = [328, 376, 424, 472].map((at) => report.subarray(at, at + 48).toString('hex'));
    assert.deepEqual(first.replayed, registers);
    assert.equal(first.info.tcb_info.rtmr3, registers[3]);
    assert.equal(first.quote.vm_config, '{"spec_version":1}');
  });

  test('obtains a TLS certificate with it, which attests the key of its TLS server', async () => {
    const report = await verifyPeer(certificateFromPem(first.peer), trust());
    assert.equal(report.valid, true, JSON.stringify(report.checks));
  });

  test("makes wallets of its keys by the SDK's helpers", async () => {
    const { ethereum, solana } = JSON.parse(await vm.run(asUser('node /app/wallets.cjs'), 180_000)) as VmWallets;
    assert.equal(await recoverMessageAddress({ message: 'hello', signature: ethereum.signature }), ethereum.address);
    assert.ok(PublicKey.isOnCurve(new PublicKey(solana).toBytes()));
  });

  describe('a verifier outside', () => {
    test('accepts its attestation and its quote', async () => {
      const expected = { reportData: Buffer.from('from the VM'), appCompose: compose };
      assert.deepEqual(await failures({ attestation: Buffer.from(first.attestation, 'hex') }, expected), []);
      assert.deepEqual(await failures(quoteOf(first), expected), []);
    });

    test('names the check that a changed quote fails', async () => {
      const input = quoteOf(first);
      const quote = Buffer.from(input.quote);
      quote[48 + 136]! ^= 1;
      assert.deepEqual(await failures({ ...input, quote }), ['quote']);
    });

    test('names the check that a changed event log fails', async () => {
      const input = quoteOf(first);
      const eventLog = input.eventLog.map((event) =>
        event.event === 'started' ? { ...event, event: 'stopped' } : event,
      );
      assert.notDeepEqual(eventLog, input.eventLog);
      assert.deepEqual(await failures({ ...input, eventLog }), ['event-log']);
    });

    test('names the check that a wrong compose hash fails', async () => {
      assert.deepEqual(await failures(quoteOf(first), { appCompose: `${compose} ` }), ['compose-hash']);
    });

    test('names the check that a wrong root fails', async () => {
      assert.deepEqual(await failures(quoteOf(first), {}, SimulatedPlatform.create()), ['root']);
    });
  });

  test('is seen by the host through its own socket, and through the public port', async () => {
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

  test('does not reach the socket of the host', async () => {
    const { exitCode, stderr } = await vm.try(
      asUser('curl -sS --unix-socket /run/dstack/guest.sock http://x/api/Info'),
    );
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /Permission denied|Couldn't connect/);
  });

  test('has the same keys when the agent was killed and started again, and the events of this boot', async () => {
    await agent.kill();
    agent = await vm.startAgent();
    const again = await runApp('again');
    assert.equal(again.key, first.key);
    assert.equal(again.info.app_id, first.info.app_id);
    assert.deepEqual(eventsOf(again).slice(-3), ['system-ready', 'started', 'again']);
    assert.deepEqual(
      await failures({ attestation: Buffer.from(again.attestation, 'hex') }, { appCompose: compose }),
      [],
    );
  });

  test('has one agent: a second beside it is refused', async () => {
    const { exitCode, stderr } = await vm.try('node /dstack/agent.cjs /dstack/agent.json');
    assert.equal(exitCode, 1);
    assert.match(stderr, /something listens/);
  });

  test('has the same keys when the VM was switched off and on, and another boot', async () => {
    await vm.reboot();
    agent = await vm.startAgent();
    const booted = await runApp('booted');
    assert.equal(booted.key, first.key);
    assert.equal(booted.info.app_id, first.info.app_id);
    assert.deepEqual(eventsOf(booted).slice(-2), ['system-ready', 'booted']);
  });

  test('has other keys than another app', async () => {
    const config = {
      ...{ app_keys: `${other}/keys.json`, event_log: `${other}/events.log`, sockets: [other] },
      ...{ guest_socket: `${other}/guest.sock`, http: '127.0.0.1:0' },
    };
    await vm.install('/other', { compose: JSON.stringify({ ...app, name: 'other app' }), config });
    await vm.startAgent('/other');
    const another = await runApp('started', `${other}/dstack.sock`);
    assert.notEqual(another.key, first.key);
    assert.notEqual(another.info.app_id, first.info.app_id);
  });
});

function eventsOf({ quote }: VmAppOutput): string[] {
  return (JSON.parse(quote.event_log) as { event: string }[]).map(({ event }) => event);
}

/** A program for the VM, as one file. */
async function bundleProgram(name: string): Promise<Buffer> {
  const scratch = await mkdtemp(join(tmpdir(), 'berth-vm-app-'));
  const outfile = join(scratch, 'app.cjs');
  const entry = fileURLToPath(new URL(`testing/${name}`, import.meta.url));
  await build({ entryPoints: [entry], outfile, bundle: true, minify: true, platform: 'node', format: 'cjs' });
  const content = await readFile(outfile);
  await rm(scratch, { recursive: true, force: true });
  return content;
}
