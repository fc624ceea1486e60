import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';

import { getComposeHash } from '@phala/dstack-sdk';
import { parseAppCompose } from './app-compose.ts';
import { getKey, kmsIssuedDigest } from './app-key.ts';
import { ed25519PublicKey } from './ed25519.ts';
import { decryptEnv } from './encrypted-env.ts';
import { runtimeEventDigest } from './events.ts';
import { keccak256, sha256, sha512 } from './hash.ts';
import { deriveKey } from './kdf.ts';
import { deriveP256, deriveSecret, p256Scalar } from './p256.ts';
import { k256PublicKey } from './secp256k1.ts';
import { k256Recover } from './testing/k256-recover.ts';

/** The published test vectors of the formats, and those that were recomputed from them. */

const hex = (text: string): Buffer => Buffer.from(text, 'hex');

test('key derivation: one path, three keys', async () => {
  const secret = hex('1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b');
  const key = deriveKey(secret, ['vms']);
  assert.equal(key.toString('hex'), '9db79b3fefe69f2a7b7efbc908c854bf845a629023361f2c9cb3db09fb99010f');
  assert.equal(ed25519PublicKey(key).toString('base64url'), '5Pbre1Amf1hrp2V2bbfKlIfxpQb2pJAmrgmhxgVoG9s');
  assert.equal((await k256PublicKey(key)).toString('base64url'), 'A6t_JdVkVdMAocH3f1f20WGT6JzdntxcXimUtEax8zc9');
});

test('contexts of any length are derived from in the same way', () => {
  const secret = Buffer.alloc(32, 1);
  for (const length of [1023, 1024, 1025, 100_000]) {
    // HKDF (RFC 5869) of one block, by its definition.
    const extracted = createHmac('sha256', 'RATLS').update(secret).digest();
    const expanded = createHmac('sha256', extracted).update('x'.repeat(length)).update(Buffer.of(1)).digest();
    assert.deepEqual(deriveKey(secret, ['x'.repeat(length)]), expanded);
  }
});

test('a secret derived from a P-256 key', () => {
  const root = hex('f57527cea4ab7ffb49af99b158cdc0e3ec06398f528349ea236b7d2afe19cec1');
  assert.equal(
    deriveSecret(root, ['context one', 'context two']).toString('hex'),
    '663afd58820be8ad645f9c035e93199d114ab16f738db62393bc1d7d623e8813',
  );
});

test('keys without a KMS, from a seed', () => {
  const seed = Buffer.alloc(32, 0x11);
  assert.equal(
    p256Scalar(deriveP256(seed, ['app-key'])).toString('hex'),
    '106cd488068ac5f9c60181601667814c5190b0b2744d604099ed5724c4abd56e',
  );
  assert.equal(
    deriveKey(seed, ['app-k256-key']).toString('hex'),
    'a4ece6d65373620ea84c69fb60bc9941da49911831e0ce951f44703db3be1619',
  );
  assert.equal(
    deriveSecret(seed, ['app-disk-key']).toString('hex'),
    'd1072319e6d7102f5e5f9ba19db0b13911e79fe3df29ad06272b4f597ebd2b0c',
  );
});

test('the KMS signature over a public key for environments', () => {
  const publicKey = hex('e33a1832c6562067ff8f844a61e51ad051f1180b66ec2551fb0251735f3ee90a');
  const signature = hex(
    '8542c49081fbf4e03f62034f13fbf70630bdf256a53032e38465a27c36fd6bed' +
      '7a5e7111652004aef37f7fd92fbfc1285212c4ae6a6154203a48f5e16cad2cef00',
  );
  assert.equal(
    k256Recover(signature, keccak256('dstack-env-encrypt-pubkey:', Buffer.alloc(20), publicKey)).toString('hex'),
    '0217610d74cbd39b6143842c6d8bc310d79da1d82cc9d17f8876376221eda0c38f',
  );
});

test('event digests of both versions', () => {
  const digest = (event: string, payload: string, version: 1 | 2): string =>
    runtimeEventDigest({ event, payload: hex(payload), version }).toString('hex');
  assert.equal(
    digest('app-id', 'deadbeef', 1),
    '67b4be4efed0893cfa2bb1d35dca209ad8348b4c97f980807bcde8b9a0f26398dd0923d6eccb5aa2096d98046da8740f',
  );
  assert.equal(
    digest('custom-event', 'deadbeef', 1),
    '932d89c58e4b06531792f52cae148160c71aed5eef155b3294b2ca88e85b4b9b96753526c082a4cf90fd39ffe6ee2fd9',
  );
  assert.equal(
    digest('compose-hash', 'abcd', 2),
    '9dde1673f544faa94b921825209593ddde08d0baf9cd6990175dffaf3081f1bb10311d56de189491feb33842a050ad7b',
  );
});

test('a signature chain is recovered to the app, and to the KMS', async () => {
  const kms = Buffer.alloc(32, 7);
  const root = { k256Key: Buffer.alloc(32, 9), k256Signature: Buffer.alloc(0) };
  const appId = Buffer.alloc(20, 1);
  for (const algorithm of ['secp256k1', 'k256', '', 'ed25519']) {
    const { publicKey, signatureChain } = await getKey(root, '/test/path', 'test-purpose', algorithm);
    const statement = keccak256(`test-purpose:${publicKey.toString('hex')}`);
    assert.deepEqual(k256Recover(signatureChain[0], statement), await k256PublicKey(root.k256Key));
    assert.equal(signatureChain[1].length, 0);
  }
  assert.notDeepEqual(
    kmsIssuedDigest(appId, await k256PublicKey(root.k256Key)),
    kmsIssuedDigest(appId, await k256PublicKey(kms)),
  );
});

test('a key is the same whether it is derived or remembered, whatever was asked for in between', async () => {
  const root = (): { k256Key: Buffer; k256Signature: Buffer } => ({
    k256Key: Buffer.alloc(32, 9),
    k256Signature: Buffer.alloc(0),
  });
  const used = root();
  const first = await getKey(used, 'path', 'purpose', '');
  for (const [path, purpose, algorithm] of [
    ['path', 'other', ''],
    ['other', 'purpose', ''],
    ['path', 'purpose', 'ed25519'],
    ['path","purpose', '', ''],
    ['x'.repeat(5000), '', ''],
  ] as const) {
    assert.deepEqual(await getKey(used, path, purpose, algorithm), await getKey(root(), path, purpose, algorithm));
    assert.notDeepEqual(await getKey(used, path, purpose, algorithm), first);
  }
  for (let index = 0; index < 1001; index++) await getKey(used, `${index}`, '', 'ed25519');
  assert.deepEqual(await getKey(used, 'path', 'purpose', 'k256'), first);
});

test('the hash of an app is that of its text, which the published client normalises', () => {
  for (const [compose, hash] of [
    [
      { runner: 'docker-compose', docker_compose_file: 'version: "3"' },
      'f411b23080c9a3557d59f77a6729056aaa5309f104963348e5c883d09b1a5348',
    ],
    [
      { runner: 'bash', bash_script: 'echo "测试"' },
      'e10f77621633a1aff65f55cd5e74531d7e383b1bd0f6e7449bb4e882ae3c079a',
    ],
  ] as const) {
    assert.equal(getComposeHash(compose), hash);
    const sorted = JSON.stringify(Object.fromEntries(Object.entries(compose).sort()));
    assert.equal(parseAppCompose(sorted).hash.toString('hex'), hash);
  }
});

test('hashes are the ones that were meant', () => {
  assert.equal(keccak256().toString('hex'), 'c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470');
  assert.match(sha512('app-data:test').toString('hex'), /^1864e059be7e1ec1.*c52e532$/);
  assert.equal(
    sha256('dstack-launch-token/v1:', 'unit-test-launch-token-0000000001').toString('hex'),
    '28faa1319055d733ad9651f5ab7689c15b04609846bcd27b3c5bc8df6246f5a3',
  );
});

test('an encrypted environment', () => {
  const plaintext = decryptEnv(
    hex('7c282bf94b35dc47801dc953bfa0896fc2bd313381d3e8eca4e42f6536d2a96f'),
    hex(
      '0bd18749612f4c8b9dd583c7d6a646b90abd34e3c731a7708d0caf9039095641e1f0948e775f0b7351788db7f246d518' +
        '06954626dcccb6a60d64665ca3715c6bef75616cab476d27bba04080361200d6a58cec',
    ),
  );
  assert.equal(plaintext.toString(), '[{"key":"","value":""}]');
});
