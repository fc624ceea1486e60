/** Tokens of an identity provider, whose key set is behind a URL or in a file. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import { openTestApi, smallConfig, type TestApi } from './testing/test-api.ts';

interface Key {
  readonly kid: string;
  /** ES256 unless it says otherwise. */
  readonly alg?: string;
  readonly jwk: object;
  readonly secret: CryptoKey;
}

async function makeKey(kid: string): Promise<Key> {
  const { publicKey, privateKey } = await generateKeyPair('ES256');
  return { kid, jwk: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' }, secret: privateKey };
}

function sign(
  { kid, alg = 'ES256', secret }: Key,
  claims: JWTPayload,
  change = (jwt: SignJWT) => jwt,
): Promise<string> {
  const jwt = new SignJWT(claims)
    .setProtectedHeader({ alg, kid })
    .setIssuer('https://idp.example')
    .setAudience('metald')
    .setExpirationTime('5 minutes');
  return change(jwt).sign(secret);
}

const acme = { customer_id: 'acme' };

/** Where a provider keeps its keys. */
interface Provider {
  readonly keySet: string;
  publish(...keys: readonly Key[]): void;
  close(): void;
}

async function behindUrl(): Promise<Provider> {
  let body = '';
  const server: Server = createServer((_request, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    keySet: `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`,
    publish(...keys) {
      body = JSON.stringify({ keys: keys.map(({ jwk }) => jwk) });
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function inFile(): Promise<Provider> {
  const dir = mkdtempSync(join(tmpdir(), 'berth-jwks-'));
  const keySet = join(dir, 'jwks.json');
  return {
    keySet,
    publish: (...keys) => writeFileSync(keySet, JSON.stringify({ keys: keys.map(({ jwk }) => jwk) })),
    close: () => rmSync(dir, { recursive: true }),
  };
}

for (const [place, open] of [
  ['behind a URL', behindUrl],
  ['in a file', inFile],
] as const) {
  describe(`tokens of a provider whose keys are ${place}`, () => {
    let api: TestApi;
    let provider: Provider;
    let key: Key;
    let foreign: Key;

    before(async () => {
      [key, foreign] = await Promise.all([makeKey('k1'), makeKey('k1')]);
      provider = await open();
      provider.publish(key);
      const { keySet } = provider;
      const jwt = { issuer: 'https://idp.example', audience: 'metald', customerClaim: 'customer_id', keySet };
      api = await openTestApi({ auth: { development: false, jwt: { ...jwt, keyCooldownMs: 0 } } });
    });
    after(async () => {
      await api[Symbol.asyncDispose]();
      provider.close();
    });

    const statusOf = async (token: string) =>
      (await api.call('ListVms', {}, { authorization: `Bearer ${token}` })).status;

    const rows: readonly (readonly [what: string, make: () => Promise<string>, status: number])[] = [
      ['a good one', () => sign(key, acme), 200],
      ['one without a customer', () => sign(key, {}), 401],
      ['one whose customer is no id', () => sign(key, { customer_id: 'a,b' }), 401],
      ['one of another issuer', () => sign(key, acme, (jwt) => jwt.setIssuer('https://evil.example')), 401],
      ['one for another audience', () => sign(key, acme, (jwt) => jwt.setAudience('billing')), 401],
      ['an old one', () => sign(key, acme, (jwt) => jwt.setExpirationTime('-1 minute')), 401],
      ['one of the future', () => sign(key, acme, (jwt) => jwt.setNotBefore('1 hour')), 401],
      ['one signed by another key of that name', () => sign(foreign, acme), 401],
      ['one that names a key nobody knows', () => sign({ ...key, kid: 'k9' }, acme), 401],
      [
        'one without an end',
        () =>
          new SignJWT(acme)
            .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
            .setIssuer('https://idp.example')
            .setAudience('metald')
            .sign(key.secret),
        401,
      ],
      [
        'one without a signature',
        async () => {
          const [, claims] = (await sign(key, acme)).split('.');
          return `${Buffer.from('{"alg":"none"}').toString('base64url')}.${claims}.x`;
        },
        401,
      ],
      [
        'one signed with a shared secret',
        () =>
          new SignJWT(acme)
            .setProtectedHeader({ alg: 'HS256', kid: 'k1' })
            .setIssuer('https://idp.example')
            .setAudience('metald')
            .setExpirationTime('5 minutes')
            .sign(Buffer.alloc(32)),
        401,
      ],
      [
        'one signed by an algorithm that the key is not for',
        async () => {
          const { privateKey } = await generateKeyPair('ES384');
          return sign({ ...key, alg: 'ES384', secret: privateKey }, acme);
        },
        401,
      ],
    ];
    for (const [what, make, status] of rows) {
      it(`${what}: ${status}`, async () => {
        const token = await make();
        for (const round of [1, 2]) assert.equal(await statusOf(token), status, `round ${round}`);
      });
    }

    it('make VMs for the customer they name', async () => {
      const headers = { authorization: `Bearer ${await sign(key, acme)}` };
      assert.equal((await api.call('CreateVm', { vm_id: 'v', config: smallConfig }, headers)).status, 200);
      assert.equal(api.vms.get('v').tenant, 'acme');
    });

    it('are taken once their key is published, beside those of the key before', async () => {
      const next = await makeKey('k2');
      assert.equal(await statusOf(await sign(next, acme)), 401, 'not published yet');
      provider.publish(key, next);
      assert.equal(await statusOf(await sign(next, acme)), 200);
      assert.equal(await statusOf(await sign(key, { ...acme, round: 2 })), 200);
    });
  });
}

describe('a key set in a file', () => {
  it('is dropped key by key with the file, and stays what it was while the file is not one', async () => {
    const provider = await inFile();
    const [key, next] = await Promise.all([makeKey('k1'), makeKey('k2')]);
    provider.publish(key);
    const { keySet } = provider;
    const jwt = { issuer: 'https://idp.example', audience: 'metald', customerClaim: 'customer_id', keySet };
    await using api = await openTestApi({ auth: { development: false, jwt: { ...jwt, keyCooldownMs: 0 } } });
    const statusOf = async (by: Key, n: number) =>
      (await api.call('ListVms', {}, { authorization: `Bearer ${await sign(by, { ...acme, n })}` })).status;
    assert.equal(await statusOf(key, 1), 200);
    writeFileSync(keySet, '{"keys": [');
    assert.equal(await statusOf(key, 2), 200, 'half a file');
    provider.publish(next);
    assert.deepEqual([await statusOf(key, 3), await statusOf(next, 3)], [401, 200]);
    provider.close();
    assert.equal(await statusOf(next, 4), 200, 'no file');
  });
});
