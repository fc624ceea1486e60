import assert from 'node:assert/strict';
import { createHash, createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { keccak_256 } from '@noble/hashes/sha3.js';
import { getCollateral, QuoteVerifier } from '@phala/dcap-qvl';
import { DstackClient, getComposeHash, TappdClient } from '@phala/dstack-sdk';
import { toKeypairSecure } from '@phala/dstack-sdk/solana';
import { toViemAccountSecure } from '@phala/dstack-sdk/viem';
import { recoverMessageAddress } from 'viem';
import { k256PublicKey } from '../attest/secp256k1.ts';
import { k256Recover } from '../attest/testing/k256-recover.ts';
import { raTlsOid, raTlsPayload } from '../attest/tls/extensions.ts';
import { readCertificate } from '../attest/x509/certificate.ts';
import { startTestAgent, type TestDevAgent } from './testing/dev-agent.ts';
import { parseTrust } from './trust-file.ts';

/** The published client, unmodified, against laptop mode. */
describe('the dstack SDK', () => {
  const compose = {
    manifest_version: 2,
    name: 'sdk test',
    runner: 'docker-compose',
    docker_compose_file: 'services: {}',
  };
  let agent: TestDevAgent;
  let client: DstackClient;
  before(async () => {
    agent = await startTestAgent({ compose });
    client = new DstackClient(agent.dstackSocket);
  });
  after(() => agent[Symbol.asyncDispose]());

  test('reaches it and is told a version that it knows', async () => {
    assert.equal(await client.isReachable(), true);
    assert.equal((await client.version()).version, '0.5.8');
  });

  test('getKey: the same key for a path, with a chain that ends at the KMS', async () => {
    const [first, again, other] = await Promise.all([
      client.getKey('wallet', 'signing'),
      client.getKey('wallet', 'other'),
      client.getKey('wallet/2', 'signing'),
    ]);
    assert.deepEqual(again.key, first.key);
    assert.notDeepEqual(other.key, first.key);
    const publicKey = await k256PublicKey(first.key);
    const appKey = k256Recover(first.signature_chain[0]!, keccak_256(`signing:${publicKey.toString('hex')}`));
    const appId = Buffer.from((await client.info()).app_id, 'hex');
    const issued = keccak_256(Buffer.concat([Buffer.from('dstack-kms-issued:'), appId, appKey]));
    const meta = k256Recover(first.signature_chain[1]!, issued);
    const { signature_chain: chain } = await client.getKey('elsewhere');
    assert.deepEqual(k256Recover(chain[1]!, issued), meta);
  });

  test('getKey for ed25519', async () => {
    const { key } = await client.getKey('wallet', 'signing', 'ed25519');
    assert.deepEqual(key, (await client.getKey('wallet')).key);
    await assert.rejects(client.getKey('wallet', 'signing', 'rsa'));
  });

  test('viem and Solana wallets', async () => {
    const account = toViemAccountSecure(await client.getKey('wallet/ethereum'));
    const signature = await account.signMessage({ message: 'hello' });
    assert.equal(await recoverMessageAddress({ message: 'hello', signature }), account.address);
    const wallet = toKeypairSecure(await client.getKey('wallet/solana'));
    assert.equal(wallet.publicKey.toBytes().length, 32);
  });

  test('getTlsKey: what was asked for is in the certificate', async () => {
    const tls = await client.getTlsKey({
      subject: 'api.example.com',
      altNames: ['localhost', '127.0.0.1', '::1'],
      usageRaTls: true,
      usageClientAuth: true,
      notBefore: 1_700_000_000,
      notAfter: 1_900_000_000,
      withAppInfo: true,
    });
    assert.equal(tls.certificate_chain.length, 3);
    const [leaf, authority, root] = tls.certificate_chain.map((pem) => new X509Certificate(pem));
    assert.equal(leaf!.subject, 'CN=api.example.com');
    assert.equal(leaf!.subjectAltName, 'DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1');
    assert.equal(leaf!.validFromDate.getTime(), 1_700_000_000_000);
    assert.equal(leaf!.validToDate.getTime(), 1_900_000_000_000);
    assert.deepEqual([...leaf!.keyUsage].sort(), ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    assert.ok(leaf!.verify(authority!.publicKey) && authority!.verify(root!.publicKey));
    const key = createPublicKey(createPrivateKey(tls.key));
    assert.ok(leaf!.checkPrivateKey(createPrivateKey(tls.key)));
    assert.ok(leaf!.publicKey.equals(key));
    const { extensions } = readCertificate(leaf!.raw);
    assert.deepEqual(raTlsPayload(extensions, raTlsOid.appId), agent.appId);
    assert.equal(raTlsPayload(extensions, raTlsOid.usage)?.toString(), 'app:custom');
    assert.equal(root!.toString().trim(), (await readFile(join(agent.directory, 'ca.pem'), 'utf8')).trim());
    assert.notEqual((await client.getTlsKey()).key, tls.key);
  });

  test('getQuote: dcap-qvl accepts it with the root and the collateral that are served', async () => {
    const { quote, event_log: log, report_data: data } = await client.getQuote('hello');
    assert.equal(data, Buffer.from('hello').toString('hex').padEnd(128, '0'));
    const collateral = await getCollateral(agent.httpUrl, Buffer.from(quote, 'hex'));
    const trust = parseTrust(await readFile(agent.trustFile, 'utf8'));
    const verifier = QuoteVerifier.newWithRootCa(trust.root!);
    const report = verifier.verify(Buffer.from(quote, 'hex'), collateral, Math.floor(Date.now() / 1000));
    assert.equal(report.status, 'UpToDate');
    const changed = Buffer.from(quote, 'hex');
    changed[600]! ^= 1;
    assert.throws(() => verifier.verify(changed, collateral, Math.floor(Date.now() / 1000)));
    assert.equal((JSON.parse(log) as { event: string }[]).filter(({ event }) => event === 'app-id').length, 1);
  });

  test('the event log replays to the registers, events of the app too', async () => {
    const before = await client.getQuote('');
    await client.emitEvent('loaded', 'v1');
    const quote = await client.getQuote('');
    const registers = [424, 472, 520, 568].map((end) => Buffer.from(quote.quote, 'hex').subarray(end - 48, end));
    assert.deepEqual(
      quote.replayRtmrs(),
      registers.map((register) => register.toString('hex')),
    );
    assert.notEqual(before.replayRtmrs()[3], quote.replayRtmrs()[3]);
    const last = (JSON.parse(quote.event_log) as { event: string; event_payload: string }[]).at(-1)!;
    assert.deepEqual([last.event, last.event_payload], ['loaded', Buffer.from('v1').toString('hex')]);
  });

  test('info: who the app is', async () => {
    const info = await client.info();
    const hash = createHash('sha256').update(info.tcb_info.app_compose).digest('hex');
    assert.equal(info.compose_hash, hash);
    assert.equal(info.compose_hash, createHash('sha256').update(JSON.stringify(compose)).digest('hex'));
    assert.equal(info.app_id, hash.slice(0, 40));
    assert.equal(info.app_name, 'sdk test');
    assert.match(info.app_cert, /^-----BEGIN CERTIFICATE-----/);
    assert.match(info.instance_id, /^[0-9a-f]{40}$/);
    assert.equal(JSON.parse(info.key_provider_info).name, 'kms');
    assert.deepEqual(Object.keys(info.tcb_info).sort(), [
      'app_compose',
      'compose_hash',
      'device_id',
      'event_log',
      'mr_aggregated',
      'mrtd',
      'os_image_hash',
      'rtmr0',
      'rtmr1',
      'rtmr2',
      'rtmr3',
    ]);
  });

  test('an app whose text is the SDK’s canonical JSON has the SDK’s hash', async () => {
    const text = {
      docker_compose_file: 'services: {}',
      manifest_version: 2,
      name: 'canonical',
      runner: 'docker-compose',
    };
    await using other = await startTestAgent({ compose: text });
    const { compose_hash: hash } = await new DstackClient(other.dstackSocket).info();
    assert.equal(hash, getComposeHash(text as Parameters<typeof getComposeHash>[0]));
  });

  test('attest', async () => {
    const { attestation } = await client.attest('nonce');
    assert.match(attestation, /^00/);
  });

  for (const algorithm of ['ed25519', 'secp256k1', 'secp256k1_prehashed'])
    test(`sign and verify with ${algorithm}`, async () => {
      const data = createHash('sha256').update('hello').digest();
      const { signature, public_key: publicKey, signature_chain: chain } = await client.sign(algorithm, data);
      assert.equal(chain.length, 3);
      assert.deepEqual(chain[0], signature);
      assert.equal((await client.verify(algorithm, data, signature, publicKey)).valid, true);
      const other = Buffer.alloc(32, 1);
      assert.equal((await client.verify(algorithm, other, signature, publicKey)).valid, false);
    });

  test('over HTTP, as with a simulator', async () => {
    const http = new DstackClient(agent.httpUrl);
    assert.deepEqual((await http.getKey('wallet')).key, (await client.getKey('wallet')).key);
    assert.equal((await http.info()).app_id, (await client.info()).app_id);
  });

  test('the older client at tappd.sock', async () => {
    const old = new TappdClient(agent.tappdSocket);
    const [first, again] = [await old.deriveKey('/path', 'subject'), await old.deriveKey('/path', 'other')];
    assert.equal(first.key, again.key);
    assert.equal(new X509Certificate(first.certificate_chain[0]!).subject, 'CN=subject');
    const { quote } = await old.tdxQuote('test');
    const bound = createHash('sha512').update('app-data:test').digest('hex');
    assert.equal(quote.replace(/^0x/, '').slice(568 * 2, 632 * 2), bound);
    assert.equal((await old.info()).app_name, 'sdk test');
  });

  test('names that are not ASCII', async () => {
    await using other = await startTestAgent({ compose: { ...compose, name: 'naïve 測試 🦊' } });
    assert.equal((await new DstackClient(other.dstackSocket).info()).app_name, 'naïve 測試 🦊');
  });
});

describe('keys', () => {
  const keyOf = async ({ dstackSocket }: TestDevAgent) => {
    const client = new DstackClient(dstackSocket);
    const { key, signature_chain: chain } = await client.getKey('path', 'test-purpose');
    return {
      key: Buffer.from(key).toString('hex'),
      chain: Buffer.from(chain[0]!).toString('hex'),
      info: await client.info(),
    };
  };

  test('are the same after a restart, and others for another app', async () => {
    const first = await startTestAgent();
    const before = await keyOf(first);
    const second = await first.restart();
    const again = await keyOf(second);
    assert.equal(again.key, before.key);
    assert.equal(again.info.instance_id, before.info.instance_id);
    await second.stop();
    await using other = await startTestAgent({ directory: first.directory, compose: { name: 'other' } });
    const changed = await keyOf(other);
    assert.notEqual(changed.key, before.key);
    assert.notEqual(changed.info.app_id, before.info.app_id);
  });

  test('of the machine, for an app whose key provider is local', async () => {
    const local = { name: 'app', key_provider: 'local' };
    const first = await startTestAgent({ compose: local });
    const before = await keyOf(first);
    assert.equal(JSON.parse(before.info.key_provider_info).name, 'local-sgx');
    await using second = await first.restart();
    assert.equal((await keyOf(second)).key, before.key);
    const { certificate_chain: chain } = await new DstackClient(second.dstackSocket).getTlsKey({ subject: 'a' });
    assert.equal(await readFile(join(second.directory, 'ca.pem'), 'utf8'), chain[1]);
  });

  test('that one directory has are taken to another; certificates end at the ca.pem of each', async () => {
    await using first = await startTestAgent();
    await using second = await startTestAgent({ appKeysFile: join(first.directory, 'app-keys.json') });
    const [before, taken] = [await keyOf(first), await keyOf(second)];
    assert.deepEqual([taken.key, taken.chain], [before.key, before.chain]);
    for (const { dstackSocket, directory } of [first, second]) {
      const { certificate_chain: chain } = await new DstackClient(dstackSocket).getTlsKey({ subject: 'a' });
      const [leaf, authority, root] = chain.map((pem) => new X509Certificate(pem));
      assert.ok(leaf!.verify(authority!.publicKey) && authority!.verify(root!.publicKey));
      assert.equal(chain[2], await readFile(join(directory, 'ca.pem'), 'utf8'));
    }
  });

  test('of a TPM are refused: there is none', async () => {
    await assert.rejects(startTestAgent({ compose: { name: 'app', key_provider: 'tpm' } }), {
      code: 'invalid_argument',
      message: /no TPM/,
    });
  });

  test('events begin anew at a restart', async () => {
    const first = await startTestAgent();
    const client = new DstackClient(first.dstackSocket);
    const before = (await client.info()).tcb_info.rtmr3;
    await client.emitEvent('x', 'y');
    await using second = await first.restart();
    assert.equal((await new DstackClient(second.dstackSocket).info()).tcb_info.rtmr3, before);
  });
});
