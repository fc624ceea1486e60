import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { padReportData } from '../attest/attest.ts';
import { decodeAttestation } from '../attest/attestation.ts';
import { issueCollateral } from '../attest/simulated/collateral.ts';
import { checkQuote } from '../attest/testing/check-quote.ts';
import { type QemuTpm, startQemuTpm } from '../attest/testing/swtpm.ts';
import { verifyPeer } from '../attest/tls/peer.ts';
import { parseTpmQuote } from '../attest/tpm/tpm-quote.ts';
import { verifyAttestation } from '../attest/verify/verify.ts';
import { certificateFromPem } from '../attest/x509/pem.ts';
import { defaultPolicy } from '../kms/policy.ts';
import { createRoot } from '../kms/root.ts';
import { rootId } from '../kms/root-id.ts';
import { createKmsServer } from '../kms/server.ts';
import { AgentVm } from './testing/vm.ts';

const log = { debug: () => {}, info: () => {}, error: () => {} };
const mac = '52:54:00:0b:0e:57';
/** Where a VM on QEMU's user network finds its host. */
const host = '10.0.2.2';

/** What an app was given by its agent. */
interface Seen {
  readonly key: string;
  readonly chain: readonly string[];
  readonly provider: { readonly name: string; readonly id: string };
  readonly appId: string;
  readonly instanceId: string;
  readonly attestation: Buffer;
  readonly certificates: readonly string[];
}

/** Every key provider in one VM, one app after another, before and after the VM is switched off and on. */
describe('keys of apps in a VM', () => {
  const root = createRoot();
  let tpm: QemuTpm;
  let kms: Server;
  let vm: AgentVm;
  const first = new Map<string, Seen>();
  const second = new Map<string, Seen>();

  const apps: Readonly<Record<string, object>> = {
    none: {},
    local: { key_provider: 'local' },
    'another-local': { key_provider: 'local' },
    kms: { key_provider: 'kms', key_provider_id: rootId(root.caCertificate) },
    tpm: { key_provider: 'tpm' },
  };

  const composeOf = (name: string) => JSON.stringify({ manifest_version: 2, name, runner: 'bash', ...apps[name] });
  const trust = () => ({ root: vm.platform.root, collateral: issueCollateral(vm.platform) });

  before(async () => {
    tpm = await startQemuTpm();
    vm = await AgentVm.boot(composeOf('none'), {
      machine: {
        extra: [
          ...tpm.qemuArguments,
          ...['-netdev', 'user,id=net0', '-device', `virtio-net-device,netdev=net0,mac=${mac}`],
        ],
        append: tpm.append,
      },
      network: { mac, ipv4: '10.0.2.15/24', gateway4: host, ipv6: null, gateway6: null, nameservers: [] },
    });
    kms = createKmsServer({ root, trust, policy: async () => defaultPolicy, names: ['localhost'], log });
    kms.listen(0, '127.0.0.1');
    await once(kms, 'listening');
    await installTpmTools(vm);
    for (const name of Object.keys(apps)) await install(name);
    await runApps(Object.keys(apps), first);
    await vm.reboot();
    await runApps(['none', 'local', 'kms', 'tpm'], second);
  });
  after(async () => {
    await vm?.[Symbol.asyncDispose]();
    await tpm?.[Symbol.asyncDispose]();
    kms?.close();
    kms?.closeAllConnections();
  });

  async function install(name: string): Promise<void> {
    const run = `/run/${name}`;
    const config = {
      ...{ app_keys: `${run}/keys.json`, event_log: `${run}/events.log`, sockets: [run] },
      ...{ guest_socket: `${run}/guest.sock`, http: '127.0.0.1:0' },
      ...(name === 'tpm'
        ? { tee: { kind: 'tpm', tcti: 'device:/dev/tpmrm0', measurements: 'measurements.json' } }
        : {}),
    };
    const { port } = kms.address() as AddressInfo;
    const sysConfig = { kms_urls: [`https://${host}:${port}`] };
    await vm.install(`/apps/${name}`, { compose: composeOf(name), config, sysConfig });
  }

  async function runApps(names: readonly string[], into: Map<string, Seen>): Promise<void> {
    for (const name of names) {
      const agent = await vm.startAgent(`/apps/${name}`);
      into.set(name, await look(name));
      await agent.kill();
    }
  }

  async function look(name: string): Promise<Seen> {
    const call = async (method: string, body: object): Promise<Record<string, string>> =>
      JSON.parse(await vm.fetch({ unix: `/run/${name}/dstack.sock` }, `/${method}`, body)) as Record<string, string>;
    const { key, signature_chain: chain } = await call('GetKey', { path: 'wallet', purpose: 'signing' });
    const info = await call('Info', {});
    const { attestation } = await call('Attest', { report_data: '1234' });
    const tls = await call('GetTlsKey', { subject: 'localhost', usage_ra_tls: true, usage_server_auth: true });
    return {
      key: key!,
      chain: chain as unknown as string[],
      provider: JSON.parse(info.key_provider_info!) as Seen['provider'],
      appId: info.app_id!,
      instanceId: info.instance_id!,
      attestation: Buffer.from(attestation!, 'hex'),
      certificates: tls.certificate_chain as unknown as string[],
    };
  }

  for (const [name, provider] of [
    ['local', 'local-sgx'],
    ['kms', 'kms'],
    ['tpm', 'tpm'],
  ] as const)
    test(`of the provider ${name} are the same after the VM was switched off`, () => {
      assert.equal(first.get(name)!.provider.name, provider);
      assert.deepEqual(second.get(name)!.provider, first.get(name)!.provider);
      assert.equal(second.get(name)!.key, first.get(name)!.key);
      assert.deepEqual(second.get(name)!.chain, first.get(name)!.chain);
      assert.equal(second.get(name)!.instanceId, first.get(name)!.instanceId);
    });

  test('of nobody are others after it, and the app is the same', () => {
    assert.notEqual(second.get('none')!.key, first.get('none')!.key);
    assert.equal(second.get('none')!.appId, first.get('none')!.appId);
  });

  test('are different for each app', () => {
    const all = [...first.values()].map(({ key }) => key);
    assert.equal(new Set(all).size, Object.keys(apps).length);
  });

  test('of the KMS come with certificates that it signed, which attest the key', async () => {
    const { certificates, chain } = second.get('kms')!;
    assert.equal(certificates.length, 3);
    assert.ok(new X509Certificate(certificates[2]!).raw.equals(root.caCertificate));
    assert.equal(chain[1]!.length, 130);
    const report = await verifyPeer(certificateFromPem(certificates[0]!), trust());
    assert.equal(report.valid, true, JSON.stringify(report.checks));
  });

  test('of the TPM come with a quote over its registers, which a verifier outside accepts', async () => {
    for (const seen of [first.get('tpm')!, second.get('tpm')!]) {
      const believed = { attestationKey: Buffer.from(seen.provider.id, 'hex') };
      const expected = { reportData: Buffer.from('1234', 'hex'), appCompose: composeOf('tpm') };
      const report = await verifyAttestation({ attestation: seen.attestation }, believed, expected);
      assert.equal(report.valid, true, JSON.stringify(report.checks));
      const other = await verifyAttestation({ attestation: seen.attestation }, believed, {
        appCompose: composeOf('none'),
      });
      assert.deepEqual(
        other.checks.filter(({ ok }) => !ok).map(({ name }) => name),
        ['compose-hash'],
      );
    }
  });

  test('and which tpm2-tools outside accept, for the data that it was asked for', async () => {
    const { attestation, provider } = second.get('tpm')!;
    const { quote } = await decodeAttestation(attestation);
    assert.equal(parseTpmQuote(quote).publicKey.toString('hex'), provider.id);
    await checkQuote(quote, padReportData(Buffer.from('1234', 'hex')));
    await assert.rejects(checkQuote(quote, padReportData(Buffer.from('5678', 'hex'))), /tpm2_checkquote/);
  });
});

/** Puts tpm2-tools of this machine, which is of the image's release, and what they load into the VM. */
async function installTpmTools(vm: AgentVm): Promise<void> {
  const libraries = '/usr/lib/x86_64-linux-gnu';
  const names = (await readdir(libraries)).filter((name) => /^libtss2-(?:\w+|tcti-device)\.so\.\d$/.test(name));
  const files: Record<string, Buffer> = { 'bin/tpm2': await readFile('/usr/bin/tpm2') };
  for (const name of names) files[`lib/${name}`] = await readFile(`${libraries}/${name}`);
  await vm.upload('/usr/local', files);
  const commands = (await readdir('/usr/bin')).filter((name) => name.startsWith('tpm2_'));
  await vm.run(`chmod +x /usr/local/bin/tpm2; ldconfig
    for command in ${commands.join(' ')}; do ln -s tpm2 /usr/local/bin/$command; done`);
}
