import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { verifyEnvEncryptPublicKey, verifyEnvEncryptPublicKeyLegacy } from '@phala/dstack-sdk';
import { encryptEnvVars } from '@phala/dstack-sdk/encrypt-env-vars';
import { kmsIssuedDigest } from '../attest/app-key.ts';
import { decryptEnv, parseEnv } from '../attest/encrypted-env.ts';
import { k256PublicKey } from '../attest/secp256k1.ts';
import { SimulatedPlatform } from '../attest/simulated/platform.ts';
import { attestedVm, composeText } from '../attest/testing/attested-vm.ts';
import { k256Recover } from '../attest/testing/k256-recover.ts';
import { raTlsOid, raTlsPayload } from '../attest/tls/extensions.ts';
import { issueLeaf } from '../attest/tls/issue.ts';
import { verifyPeer } from '../attest/tls/peer.ts';
import { issueTlsKey } from '../attest/tls/tls-key.ts';
import { publicKeyInfo, readCertificate } from '../attest/x509/certificate.ts';
import { certificateFromPem } from '../attest/x509/pem.ts';
import { KmsSigner, requestAppKeys } from './client.ts';
import { defaultPolicy, type Policy } from './policy.ts';
import { createRoot, type KmsRoot } from './root.ts';
import { rootId } from './root-id.ts';
import { attestOf, type RunningKms, type RunningKmsOptions, startKms as startAnyKms } from './testing/running-kms.ts';

const platform = SimulatedPlatform.create();
const vm = await attestedVm({ platform });
const sibling = await attestedVm({ platform, text: `${composeText} ` });
const stranger = await attestedVm();
const trust = { root: platform.root, collateral: vm.collateral };
after(() => Promise.all([vm, sibling, stranger].map((each) => each[Symbol.asyncDispose]())));

/** A KMS that believes the platform of {@link vm}. */
const startKms = (options: Partial<RunningKmsOptions> = {}) => startAnyKms({ trust, ...options });

async function withKms<T>(root: KmsRoot, run: (kms: RunningKms) => Promise<T>): Promise<T> {
  await using kms = await startKms({ root });
  return await run(kms);
}

test('an app gets its keys over RA-TLS, the same each time, and no other app gets them', async () => {
  await using kms = await startKms();
  const keys = await kms.keysOf(vm);
  assert.deepEqual(await kms.keysOf(vm), keys);
  const appId = vm.compose.hash.subarray(0, 20);
  assert.deepEqual(
    k256Recover(keys.k256Signature, kmsIssuedDigest(appId, await k256PublicKey(keys.k256Key))),
    await k256PublicKey(kms.root.k256Key),
  );
  const others = await kms.keysOf(sibling);
  for (const field of ['k256Key', 'diskCryptKey', 'envCryptKey'] as const)
    assert.notDeepEqual(others[field], keys[field], field);
  assert.ok(keys.keyProvider.name === 'kms' && keys.keyProvider.id === rootId(kms.root.caCertificate));
});

test('certificates of the KMS chain to its root and name the app', async () => {
  await using kms = await startKms();
  const { caCert } = await kms.keysOf(vm);
  const { certificateChain, key } = await issueTlsKey(
    {
      subject: 'app.example',
      altNames: ['app.example'],
      usageRaTls: true,
      usageServerAuth: true,
      usageClientAuth: false,
      withAppInfo: true,
    },
    { signer: new KmsSigner(kms.url, caCert, ''), attest: attestOf(vm) },
  );
  const [leaf, authority, root] = certificateChain.map((pem) => new X509Certificate(pem));
  assert.ok(leaf && authority && root);
  assert.ok(leaf.checkPrivateKey(createPrivateKey(key)));
  assert.ok(leaf.verify(authority.publicKey) && authority.verify(root.publicKey) && root.verify(root.publicKey));
  assert.equal(certificateChain[2], caCert);
  const { extensions } = readCertificate(leaf.raw);
  assert.deepEqual(raTlsPayload(extensions, raTlsOid.appId), vm.compose.hash.subarray(0, 20));
  assert.ok(raTlsPayload(extensions, raTlsOid.appInfo));
  const report = await verifyPeer(leaf.raw, trust, { composeHash: vm.compose.hash });
  assert.ok(report.valid, JSON.stringify(report.checks));
});

test('the published client accepts the key for environments and what it encrypts is read', async () => {
  await using kms = await startKms();
  const keys = await kms.keysOf(vm);
  const appId = vm.compose.hash.toString('hex', 0, 20);
  const response = await fetch(`${kms.publicUrl}/prpc/GetAppEnvEncryptPubKey?json`, {
    method: 'POST',
    body: JSON.stringify({ app_id: appId }),
  });
  assert.equal(response.status, 200);
  const reply = (await response.json()) as Record<string, string> & { timestamp: number };
  const bytes = (field: string): Buffer => Buffer.from(reply[field] ?? '', 'hex');
  const root = `0x${(await k256PublicKey(kms.root.k256Key)).toString('hex')}`;
  assert.equal(
    verifyEnvEncryptPublicKey(bytes('public_key'), bytes('signature_v1'), appId, BigInt(reply.timestamp)),
    root,
  );
  assert.equal(verifyEnvEncryptPublicKeyLegacy(bytes('public_key'), bytes('signature'), appId), root);
  const encrypted = await encryptEnvVars([{ key: 'SECRET', value: 'wört\n' }], reply.public_key ?? '');
  const { variables } = parseEnv(decryptEnv(keys.envCryptKey, Buffer.from(encrypted, 'hex')), ['SECRET']);
  assert.deepEqual([...variables], [['SECRET', 'wört\n']]);
});

test('GetMeta names the root, over TLS and without; nothing secret is said without', async () => {
  await using kms = await startKms();
  const response = await fetch(`${kms.publicUrl}/prpc/KMS.GetMeta`);
  const meta = (await response.json()) as Record<string, unknown>;
  assert.equal(meta.k256_pubkey, (await k256PublicKey(kms.root.k256Key)).toString('hex'));
  assert.equal(meta.is_dev, true);
  assert.deepEqual(certificateFromPem(meta.ca_cert as string), kms.root.caCertificate);
  for (const method of ['GetAppKey', 'GetTempCaCert', 'SignCert', 'toString', 'constructor']) {
    const refused = await fetch(`${kms.publicUrl}/prpc/${method}`);
    assert.equal(refused.status, 404, method);
  }
  assert.equal((await fetch(`${kms.publicUrl}/`)).status, 404);
  const short = await fetch(`${kms.publicUrl}/prpc/GetAppEnvEncryptPubKey?app_id=aabb`);
  assert.equal(short.status, 400);
  assert.match(JSON.stringify(await short.json()), /app_id must be 20 bytes/);
});

test('who is not attested, or not allowed, gets no keys', async () => {
  const refused = /403/;
  await using kms = await startKms();
  await assert.rejects(kms.keysOf(stranger), refused, 'a VM of another platform');
  const wrongKey = requestAppKeys({
    url: kms.url,
    pinnedRoot: '',
    vmConfig: '',
    attest: () => attestOf(vm)(Buffer.alloc(64, 1)),
  });
  await assert.rejects(wrongKey, refused, 'the quote of another key');
  const { status, text } = await kms.call('GetAppKey', {});
  assert.equal(status, 403);
  assert.doesNotMatch(text, /certificate|attest/);
  assert.equal((await kms.call('GetAppKey', {}, selfMade(kms.root, 'other'))).status, 403, 'another authority');
  assert.equal((await kms.call('GetAppKey', {}, selfMade(kms.root, 'temp'))).status, 403, 'no attestation');
  assert.equal((await kms.call('GetAppKey', { api_version: 99 })).status, 400);
  assert.equal((await kms.call('SignCert', { csr: 'ff', signature: '00' })).status, 400);
});

test('the policy decides at each request', async () => {
  const appId = vm.compose.hash.toString('hex', 0, 20);
  const hash = vm.compose.hash.toString('hex');
  const policies: [string, Partial<Policy>, boolean][] = [
    ['self-named', {}, true],
    ['nothing allowed', { allowSelfNamed: false }, false],
    ['listed', { allowSelfNamed: false, apps: [{ appId, composeHashes: ['00'.repeat(32), hash] }] }, true],
    ['listed with another hash', { apps: [{ appId, composeHashes: ['00'.repeat(32)] }] }, false],
    ['another image', { osImages: ['00'.repeat(32)] }, false],
  ];
  let policy = defaultPolicy;
  await using kms = await startKms({ policy: async () => policy });
  for (const [name, change, allowed] of policies) {
    policy = { ...defaultPolicy, ...change };
    const outcome = await kms.keysOf(vm).then(
      () => true,
      () => false,
    );
    assert.equal(outcome, allowed, name);
  }
});

test('an app that pins its KMS speaks to no other', async () => {
  await using kms = await startKms();
  await using other = await startKms();
  const request = (pinnedRoot: string): ReturnType<typeof requestAppKeys> =>
    requestAppKeys({ url: kms.url, pinnedRoot, vmConfig: '', attest: attestOf(vm) });
  await request(rootId(kms.root.caCertificate));
  await assert.rejects(request(rootId(other.root.caCertificate)), /another root key/);
  const signer = new KmsSigner(kms.url, (await other.keysOf(vm)).caCert, '');
  await assert.rejects(signer.sign(Buffer.alloc(1), Buffer.alloc(1)));
});

test('a server that only repeats what a KMS says is not taken for it', async () => {
  await using kms = await startKms();
  await using impostor = await startKms({ pretends: kms.root });
  await assert.rejects(
    requestAppKeys({ url: impostor.url, pinnedRoot: '', vmConfig: '', attest: attestOf(vm) }),
    /is not the KMS/,
  );
});

test('one KMS after another: a new root gives new keys, the old one the old keys', async () => {
  const root = createRoot();
  const before = await withKms(root, (kms) => kms.keysOf(vm));
  const renewed = await withKms(createRoot(), (kms) => kms.keysOf(vm));
  const again = await withKms(root, (kms) => kms.keysOf(vm));
  assert.deepEqual(again.k256Key, before.k256Key);
  assert.notDeepEqual(renewed.k256Key, before.k256Key);
});

test('a path that is none is answered like any other that is not there', async () => {
  await using kms = await startKms();
  const { hostname, port } = new URL(kms.publicUrl);
  for (const path of ['//', '//[', '*', '/prpc/', '/prpc/a/b']) {
    const sent = request({ hostname, port, path }).end();
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    response.resume();
    assert.equal(response.statusCode, 404, path);
  }
  assert.equal((await fetch(`${kms.publicUrl}/prpc/GetMeta?json`)).status, 200);
});

test('one guest that holds connections open does not shut others out', async () => {
  await using kms = await startKms();
  for (const url of [kms.url, kms.publicUrl]) {
    const port = Number(new URL(url).port);
    const silent = Array.from({ length: 256 }, () =>
      connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' }).on('error', () => {}),
    );
    try {
      await Promise.all(silent.map((socket) => once(socket, 'connect')));
      const method = '/prpc/GetMeta?json';
      const sent = url.startsWith('https:')
        ? httpsRequest(url + method, { rejectUnauthorized: false, agent: false })
        : request(url + method, { agent: false });
      const [response] = (await once(sent.end(), 'response')) as [IncomingMessage];
      response.resume();
      assert.equal(response.statusCode, 200, url);
    } finally {
      for (const socket of silent) socket.destroy();
    }
  }
});

/** A client certificate without an attestation, signed by the temporary authority or by another. */
function selfMade(root: KmsRoot, by: 'temp' | 'other'): { key: string; cert: string } {
  const issuer = by === 'temp' ? root : createRoot();
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const certificate = issueLeaf(
    {
      publicKey: publicKeyInfo(privateKey),
      subject: 'client',
      altNames: [],
      serverAuth: false,
      clientAuth: true,
      withAttestation: false,
      withAppInfo: false,
      attestation: Buffer.alloc(0),
    },
    { key: issuer.tempCaKey, certificate: issuer.tempCaCertificate },
  );
  return {
    key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    cert: new X509Certificate(certificate).toString(),
  };
}
