import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { runCommand } from '../../common/command.ts';
import type { BerthError } from '../../common/errors.ts';
import { type AppKeys, appKeysFromSeed } from '../app-keys.ts';
import { attestedVm } from '../testing/attested-vm.ts';
import { readCertificate } from '../x509/certificate.ts';
import { certificateFromPem } from '../x509/pem.ts';
import { encodeAppInfo } from './app-info.ts';
import { checkRequest, encodeRequest, signRequest } from './csr.ts';
import { raTlsOid, raTlsPayload } from './extensions.ts';
import { verifyPeer } from './peer.ts';
import type { TlsKeyRequest } from './request.ts';
import { deriveTlsKey, issueTlsKey, LocalSigner, type TlsKeyContext } from './tls-key.ts';

const vm = await attestedVm();
test.after(() => vm[Symbol.asyncDispose]());
const attest = (reportData: Buffer): Promise<Buffer> => vm.attestor.attest(reportData, { stripped: true });
const keys = await appKeysFromSeed(Buffer.alloc(32, 0x11), { attest });
const trust = { root: vm.platform.root, collateral: vm.collateral };

const appInfo = encodeAppInfo({
  appId: Buffer.alloc(20, 1),
  composeHash: vm.compose.hash,
  instanceId: Buffer.alloc(20),
  deviceId: Buffer.alloc(32),
  mrSystem: Buffer.alloc(32),
  mrAggregated: Buffer.alloc(32),
  osImageHash: Buffer.alloc(0),
  keyProviderInfo: '{"name":"none","id":""}',
});

function contextOf({ caCert, keyProvider }: AppKeys): TlsKeyContext {
  assert.ok(keyProvider.name !== 'kms');
  return { signer: new LocalSigner(createPrivateKey(keyProvider.caKey), caCert, async () => appInfo), attest };
}
const context = contextOf(keys);

const asked: TlsKeyRequest = {
  subject: 'example.com',
  altNames: ['www.example.com', 'localhost', '127.0.0.1', '::1', '2001:db8::ff00:42:8329', '::ffff:192.0.2.1'],
  usageRaTls: true,
  usageServerAuth: true,
  usageClientAuth: true,
  withAppInfo: true,
};

test('a certificate says what was asked for, to OpenSSL and to Node', async () => {
  const { key, certificateChain } = await issueTlsKey(asked, context);
  assert.match(key, /^-----BEGIN PRIVATE KEY-----\n/);
  assert.equal(certificateChain.length, 2);
  const [leaf, authority] = certificateChain.map((pem) => new X509Certificate(pem));
  assert.ok(leaf && authority);
  assert.ok(leaf.checkPrivateKey(createPrivateKey(key)));
  assert.ok(leaf.verify(authority.publicKey) && leaf.checkIssued(authority));
  assert.equal(leaf.subject, 'CN=example.com');
  assert.ok(leaf.checkHost('www.example.com') && leaf.checkIP('127.0.0.1') && leaf.checkIP('2001:db8::ff00:42:8329'));
  assert.equal(leaf.checkIP('10.0.0.1'), undefined);
  assert.ok(authority.ca && !leaf.ca);
  assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  assert.equal(leaf.validFrom, 'Jan  1 00:00:00 1975 GMT');
  const directory = await mkdtemp(join(tmpdir(), 'berth-tls-'));
  try {
    await writeFile(join(directory, 'leaf.pem'), certificateChain[0]!);
    await writeFile(join(directory, 'root.pem'), certificateChain[1]!);
    const verified = await runCommand('openssl', ['verify', '-x509_strict', '-CAfile', 'root.pem', 'leaf.pem'], {
      cwd: directory,
    });
    assert.equal(verified.stdout, 'leaf.pem: OK\n');
    const { stdout } = await runCommand('openssl', ['x509', '-in', 'leaf.pem', '-noout', '-text'], { cwd: directory });
    assert.match(stdout, /Signature Algorithm: ecdsa-with-SHA256/);
    assert.match(stdout, /X509v3 Key Usage: critical\s+Digital Signature\n/);
    assert.match(
      stdout,
      /DNS:www.example.com, DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, IP Address:2001:DB8:0:0:0:FF00:42:8329, IP Address:0:0:0:0:0:FFFF:C000:201/,
    );
    for (const suffix of ['4', '8', '9'])
      assert.match(stdout, new RegExp(`1\\.3\\.6\\.1\\.4\\.1\\.62397\\.1\\.${suffix}:`));
  } finally {
    await rm(directory, { recursive: true });
  }
});

test('nothing is in a certificate that was not asked for', async () => {
  const { certificateChain } = await issueTlsKey(
    {
      subject: '',
      altNames: [],
      usageRaTls: false,
      usageServerAuth: false,
      usageClientAuth: false,
      withAppInfo: false,
      notBefore: 0,
      notAfter: 4102444800,
    },
    context,
  );
  const certificate = new X509Certificate(certificateChain[0]!);
  assert.equal(certificate.validFrom, 'Jan  1 00:00:00 1970 GMT');
  assert.equal(certificate.validTo, 'Jan  1 00:00:00 2100 GMT');
  assert.equal(certificate.subjectAltName, undefined);
  assert.equal(certificate.keyUsage, undefined);
  const { extensions } = readCertificate(certificate.raw);
  assert.equal(raTlsPayload(extensions, raTlsOid.usage)?.toString(), 'app:custom');
  assert.equal(raTlsPayload(extensions, raTlsOid.attestation), null);
  assert.equal(raTlsPayload(extensions, raTlsOid.appInfo), null);
});

test('keys are random, derived keys are always the same, and of one app alone', async () => {
  const publicKey = ({ key }: { readonly key: string }): string =>
    createPublicKey(key).export({ format: 'pem', type: 'spki' }).toString();
  const quiet = { ...asked, usageRaTls: false };
  assert.notEqual(publicKey(await issueTlsKey(quiet, context)), publicKey(await issueTlsKey(quiet, context)));
  const derived = publicKey(await deriveTlsKey(keys, 'a', quiet, context));
  assert.equal(publicKey(await deriveTlsKey(keys, 'a', quiet, context)), derived);
  assert.notEqual(publicKey(await deriveTlsKey(keys, 'b', quiet, context)), derived);
  const other = await appKeysFromSeed(Buffer.alloc(32, 0x22));
  assert.notEqual(publicKey(await deriveTlsKey(other, 'a', quiet, contextOf(other))), derived);
});

test('two agents talk to each other by mutual RA-TLS', async () => {
  const [server, client] = [await issueTlsKey(asked, context), await issueTlsKey(asked, context)];
  const { promise: peer, resolve } = Promise.withResolvers<Buffer>();
  const listener = createServer(
    {
      key: server.key,
      cert: server.certificateChain.join(''),
      ca: keys.caCert,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (socket) => {
      resolve(socket.getPeerCertificate(true).raw);
      socket.end('hello');
    },
  );
  await new Promise<void>((ready) => listener.listen(0, '127.0.0.1', ready));
  try {
    const socket = connect({
      host: '127.0.0.1',
      port: (listener.address() as AddressInfo).port,
      key: client.key,
      cert: client.certificateChain.join(''),
      ca: keys.caCert,
    });
    const serverCertificate = await new Promise<Buffer>((done, fail) => {
      socket.on('secureConnect', () => done((socket as TLSSocket).getPeerCertificate(true).raw)).on('error', fail);
      socket.resume();
    });
    for (const certificate of [serverCertificate, await peer]) {
      const report = await verifyPeer(certificate, trust, { composeHash: vm.compose.hash });
      assert.deepEqual(
        report.checks.filter(({ ok }) => !ok),
        [],
      );
      assert.ok(report.valid && report.simulated);
    }
    socket.destroy();
  } finally {
    listener.close();
  }
});

test('the quote of another key is no proof', async () => {
  const { certificateChain } = await issueTlsKey(asked, {
    ...context,
    attest: () => attest(Buffer.alloc(64, 1)),
  });
  const report = await verifyPeer(certificateFromPem(certificateChain[0]!), trust);
  assert.deepEqual(
    report.checks.filter(({ ok }) => !ok).map(({ name }) => name),
    ['report-data'],
  );
  const without = await issueTlsKey({ ...asked, usageRaTls: false }, context);
  assert.ok(!(await verifyPeer(certificateFromPem(without.certificateChain[0]!), trust)).valid);
  assert.ok(!(await verifyPeer(Buffer.from('no certificate'), trust)).valid);
});

test('requests that cannot be a certificate are refused', async () => {
  const bad: Partial<TlsKeyRequest>[] = [
    { notBefore: 20, notAfter: 10 },
    { notBefore: 10, notAfter: 10 },
    { notAfter: 1e12 },
    { subject: 'x'.repeat(2000) },
    { subject: 'example.com\0.app' },
    { altNames: ['not a name'] },
    { altNames: ['bücher.example'] },
    { altNames: [''] },
    { altNames: Array<string>(1000).fill('a') },
  ];
  for (const change of bad)
    await assert.rejects(
      issueTlsKey({ ...asked, ...change }, context),
      (error: BerthError) => error.code === 'invalid_argument',
      JSON.stringify(change).slice(0, 100),
    );
});

test('a request must be signed by its own key', async () => {
  const key = createPrivateKey((await issueTlsKey(asked, context)).key);
  const request = {
    publicKey: createPublicKey(key).export({ format: 'der', type: 'spki' }),
    organization: 'org',
    subject: 'subject',
    altNames: ['a', 'b'],
    serverAuth: true,
    clientAuth: false,
    withAttestation: true,
    withAppInfo: false,
    notBefore: 1,
    notAfter: 2 ** 33,
    attestation: Buffer.from('attestation'),
  };
  const encoded = encodeRequest(request);
  const signature = signRequest(encoded, key);
  assert.deepEqual(checkRequest(encoded, signature), request);
  const long = encodeRequest({ ...request, organization: 'x'.repeat(1025) });
  assert.throws(() => checkRequest(long, signRequest(long, key)), {
    code: 'invalid_argument',
    message: /organization/,
  });
  const controlled = encodeRequest({ ...request, organization: 'a\nb' });
  assert.throws(() => checkRequest(controlled, signRequest(controlled, key)), { message: /control character/ });
  const changed = Buffer.from(encoded);
  changed[changed.length - 1]! ^= 1;
  const refused = (error: BerthError): boolean => error.code === 'invalid_argument';
  assert.throws(() => checkRequest(changed, signature), refused);
  assert.throws(() => checkRequest(encoded, Buffer.alloc(70)), refused);
  assert.throws(() => checkRequest(encoded.subarray(1), signature), refused);
});
