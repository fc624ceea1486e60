import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { issueCollateral } from '../attest/simulated/collateral.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { startSwtpm } from '../attest/testing/swtpm.ts';
import { verifyAttestation } from '../attest/verify/verify.ts';
import { defaultPolicy } from '../kms/policy.ts';
import { createRoot } from '../kms/root.ts';
import { rootId } from '../kms/root-id.ts';
import { createKmsServer } from '../kms/server.ts';
import { type RunningAgent, startAgent } from './run.ts';
import { parseRunConfig } from './run-config.ts';
import { agentFiles, inDirectory } from './testing/agent-files.ts';
import { unixFetch } from './testing/unix-fetch.ts';

const log = { debug: () => {}, info: () => {}, error: () => {} };
let home: string;
let running: RunningAgent | null = null;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'berth-run-'));
  await mkdir(join(home, 'run'));
});
afterEach(async () => {
  await running?.stop();
  running = null;
  await rm(home, { recursive: true, force: true });
});

/** What a VM has on its disk. */
async function install(compose: object, { tee, sysConfig = {} }: { tee?: object; sysConfig?: object } = {}) {
  const config = { ...inDirectory, ...(tee === undefined ? {} : { tee }) };
  const files = agentFiles({ compose: JSON.stringify(compose), config, sysConfig });
  for (const [name, content] of Object.entries(files)) await writeFile(join(home, name), content);
}

async function start(): Promise<void> {
  const path = join(home, 'agent.json');
  running = await startAgent(parseRunConfig(await readFile(path, 'utf8'), path), log);
}

async function stop(): Promise<void> {
  await running?.stop();
  running = null;
}

/** Switches the VM off and on. */
async function reboot(): Promise<void> {
  await stop();
  await rm(join(home, 'run'), { recursive: true });
  await mkdir(join(home, 'run'));
}

async function call(method: string, body: object = {}): Promise<Record<string, unknown>> {
  const reply = await unixFetch(join(home, 'run', 'dstack.sock'), `/${method}`, body);
  assert.equal(reply.status, 200, reply.text);
  return reply.json();
}

describe('an app without a key provider', () => {
  test('keeps its keys for the boot, and its instance id for ever', async () => {
    await install({ name: 'app' });
    await start();
    const first = { key: (await call('GetKey')).key, info: await call('Info') };
    await call('EmitEvent', { event: 'x' });
    await stop();
    await start();
    assert.equal((await call('GetKey')).key, first.key);
    assert.match((await call('Info')).tcb_info as string, /"event": "x"/);
    await reboot();
    await start();
    assert.notEqual((await call('GetKey')).key, first.key);
    assert.equal((await call('Info')).instance_id, first.info.instance_id);
    assert.doesNotMatch((await call('Info')).tcb_info as string, /"event": "x"/);
  });

  test('goes on with a boot that was cut off while it was measured', async () => {
    await install({ name: 'app' });
    await start();
    const whole = (await call('Info')).mr_aggregated;
    await stop();
    const path = join(home, 'run', 'events.log');
    const lines = (await readFile(path, 'utf8')).split('\n');
    await writeFile(path, `${lines.slice(0, 3).join('\n')}\n${lines[3]!.slice(0, 10)}`);
    await start();
    assert.equal((await call('Info')).mr_aggregated, whole);
  });

  test('cannot become another app during a boot', async () => {
    await install({ name: 'app', no_instance_id: true });
    await start();
    await stop();
    await install({ name: 'other', no_instance_id: true });
    await assert.rejects(start(), /this boot measured another app-id/);
  });

  test('with events of version 2 has attestations of version 1', async () => {
    await install({ name: 'app', event_log_version: 2 });
    await start();
    await call('EmitEvent', { event: 'x', payload: '00' });
    const { attestation } = await call('Attest', { report_data: '00' });
    assert.match(attestation as string, /^8/);
    const platform = await SimulatedPlatform.open(join(home, 'tee'));
    const trust = { root: platform.root, collateral: issueCollateral(platform) };
    const report = await verifyAttestation({ attestation: Buffer.from(attestation as string, 'hex') }, trust);
    assert.equal(report.valid, true, JSON.stringify(report.checks));
  });
});

describe('an app with a KMS', () => {
  test('has the same keys at each boot, and certificates that end at the KMS', async () => {
    const platform = await SimulatedPlatform.open(join(home, 'tee'));
    const root = createRoot();
    const trust = () => ({ root: platform.root, collateral: issueCollateral(platform) });
    const server = createKmsServer({ root, trust, policy: async () => defaultPolicy, names: ['localhost'], log });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
      const pinned = { name: 'app', key_provider: 'kms', key_provider_id: rootId(root.caCertificate) };
      const image = 'ab'.repeat(32);
      const sysConfig = { kms_urls: [url], vm_config: JSON.stringify({ os_image_hash: image }) };
      await install(pinned, { sysConfig });
      await start();
      const first = (await call('GetKey')) as { key: string; signature_chain: string[] };
      assert.equal(first.signature_chain[1]!.length, 130);
      const { certificate_chain: chain } = (await call('GetTlsKey', { subject: 'a' })) as {
        certificate_chain: string[];
      };
      assert.equal(chain.length, 3);
      assert.ok(new X509Certificate(chain[2]!).raw.equals(root.caCertificate));
      const info = await call('Info');
      assert.equal(info.os_image_hash, image);
      assert.deepEqual(JSON.parse(info.key_provider_info as string), { name: 'kms', id: pinned.key_provider_id });
      await reboot();
      await start();
      assert.deepEqual(await call('GetKey'), first);
      await reboot();
      await install({ ...pinned, name: 'other' }, { sysConfig });
      // The VM says that it is still the same app: whether that may run other text is the policy's to say.
      await assert.rejects(start(), /the KMS refused GetAppKey: 403/);
      await reboot();
      await rm(join(home, '.instance_info'));
      await start();
      assert.notEqual((await call('GetKey')).key, first.key);
      await reboot();
      await install({ ...pinned, key_provider_id: 'ab' }, { sysConfig });
      await assert.rejects(start(), /another root key/);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });

  test('knows who it is while its KMS is away', async () => {
    const platform = await SimulatedPlatform.open(join(home, 'tee'));
    const trust = () => ({ root: platform.root, collateral: issueCollateral(platform) });
    const options = { root: createRoot(), trust, policy: async () => defaultPolicy, names: ['localhost'], log };
    let server = createKmsServer(options);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await install({ name: 'app', key_provider: 'kms' }, { sysConfig: { kms_urls: [`https://127.0.0.1:${port}`] } });
    const away = async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    };
    await start();
    const { app_id: appId, app_cert: appCert } = await call('Info');
    assert.match(appCert as string, /^-----BEGIN CERTIFICATE/);
    await away();
    await stop();
    await start();
    const info = await call('Info');
    assert.deepEqual([info.app_id, info.app_cert], [appId, '']);
    server = createKmsServer(options);
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    assert.match((await call('Info')).app_cert as string, /^-----BEGIN CERTIFICATE/);
    await away();
  });

  test('does not start when the host names none', async () => {
    await install({ name: 'app', key_provider: 'kms' });
    await assert.rejects(start(), { code: 'invalid_argument', message: 'the host names no KMS' });
  });
});

describe('an app with keys of this machine', () => {
  test('has the same keys at each boot; another app and another machine have others', async () => {
    await install({ name: 'app', key_provider: 'local' });
    await start();
    const { key } = await call('GetKey');
    const info = JSON.parse((await call('Info')).key_provider_info as string) as { name: string; id: string };
    assert.equal(info.name, 'local-sgx');
    await reboot();
    await start();
    assert.equal((await call('GetKey')).key, key);
    const { certificate_chain: chain } = (await call('GetTlsKey', { subject: 'a' })) as { certificate_chain: string[] };
    assert.equal(new X509Certificate(chain[1]!).subject, 'CN=App Root Cert');

    await reboot();
    await install({ name: 'other', key_provider: 'local', key_provider_id: info.id });
    await start();
    assert.notEqual((await call('GetKey')).key, key);

    await reboot();
    await install({ name: 'app', key_provider: 'local' });
    await rm(join(home, 'tee'), { recursive: true });
    await start();
    assert.notEqual((await call('GetKey')).key, key);
  });

  test('does not start on a machine that is not the one it names', async () => {
    await install({ name: 'app', key_provider: 'local', key_provider_id: 'ab'.repeat(32) });
    await assert.rejects(start(), { code: 'invalid_argument', message: /local key provider is not the one/ });
  });
});

test('an app whose key provider the machine does not have is refused', async () => {
  await install({ name: 'app', key_provider: 'tpm' });
  await assert.rejects(start(), { code: 'invalid_argument', message: 'this VM has no TPM' });
});

describe('an app on a TPM', () => {
  test('has the same keys at each boot, and another app has none of them', async () => {
    await using tpm = await startSwtpm();
    const tee = { kind: 'tpm', tcti: tpm.tcti, measurements: 'measurements.json' };
    await install({ name: 'app', key_provider: 'tpm', no_instance_id: true }, { tee });
    await start();
    const { key } = await call('GetKey');
    const { attestation } = await call('Attest', { report_data: '00' });
    const { id } = JSON.parse((await call('Info')).key_provider_info as string) as { id: string };
    const trust = { attestationKey: Buffer.from(id, 'hex') };
    const report = await verifyAttestation({ attestation: Buffer.from(attestation as string, 'hex') }, trust);
    assert.equal(report.valid, true, JSON.stringify(report.checks));

    await reboot();
    await tpm.reset();
    await start();
    assert.equal((await call('GetKey')).key, key);

    await reboot();
    await tpm.reset();
    await install({ name: 'other', key_provider: 'tpm', no_instance_id: true }, { tee });
    await assert.rejects(start(), /tpm2_nvread/);
  });
});

describe('parseRunConfig', () => {
  const path = '/etc/agent.json';
  const tee = { kind: 'simulated', directory: 'tee', measurements: '/m.json' };

  test('relative paths start at the file', () => {
    const config = parseRunConfig(JSON.stringify({ tee }), path);
    assert.deepEqual(config.tee, { kind: 'simulated', directory: '/etc/tee', measurements: '/m.json' });
    assert.equal(config.appCompose, '/etc/app-compose.json');
    assert.deepEqual(config.http, { host: '::', port: 8090 });
  });

  for (const [what, text, reason] of [
    ['text that is not JSON', '{', /not JSON/],
    ['a list', '[]', /not a JSON object/],
    ['an unknown setting', JSON.stringify({ tee, sockts: [] }), /sockts is no setting/],
    ['no TEE', '{}', /kind is not a text/],
    ['an unknown TEE', '{"tee":{"kind":"sgx"}}', /none of simulated, tdx, tpm/],
    ['a TPM without its address', '{"tee":{"kind":"tpm"}}', /tcti is not a text/],
    ['an address without a port', JSON.stringify({ tee, http: 'localhost' }), /host:port/],
    ['a port that is none', JSON.stringify({ tee, http: 'localhost:99999' }), /host:port/],
    ['a text for a list', JSON.stringify({ tee, data_disks: '/' }), /data_disks is no list/],
  ] as const)
    test(`refuses ${what}`, () => {
      assert.throws(() => parseRunConfig(text, path), { code: 'invalid_argument', message: reason });
    });
});
