import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { hashPassword, verifyPassword } from './passwords.ts';
import { createTestApi, smallVm, type TestAnswer, type TestApi, testAdmin, testKey } from './testing/test-api.ts';

let api: TestApi;
let vm: string;

before(async () => {
  api = await createTestApi();
  vm = await api.createVm();
});

after(() => api.app.close());

function cookieOf(answer: TestAnswer): string {
  const [cookie = ''] = [answer.headers['set-cookie']].flat();
  return String(cookie);
}

async function logIn(target: TestApi = api): Promise<{ cookie: string }> {
  const answer = await target.anonymous('POST', '/auth/login', testAdmin);
  assert.equal(answer.status, 200);
  return { cookie: cookieOf(answer).split(';')[0] ?? '' };
}

describe('without credentials', () => {
  test('every operation but those that say so answers 401', async () => {
    const { paths } = (await api.anonymous('GET', '/openapi.json')).json;
    const open: string[] = [];
    for (const [path, item] of Object.entries<Record<string, unknown>>(paths)) {
      for (const method of Object.keys(item)) {
        const { status } = await api.anonymous(method.toUpperCase(), path.replace('{id}', vm), '', {});
        if (status !== 401) open.push(`${method} ${path}`);
      }
    }
    assert.deepEqual(open.sort(), ['post /auth/login', 'post /auth/logout']);
  });

  const closed = [
    ['GET', '/v1/vms'],
    ['GET', '/%761/vms'],
    ['GET', '/v1/%76ms'],
    ['HEAD', '/v1/vms'],
    ['GET', '/v1/vms/'],
    ['GET', '/v1/none'],
    ['GET', '/v1'],
    ['GET', '/v1/'],
    ['GET', '/v1//vms'],
    ['OPTIONS', '/v1/vms'],
    ['PUT', '/v1/vms'],
    ['GET', '/v1/vms?x=/docs/'],
    ['GET', '/v1/vms/..%2Fdocs'],
    ['POST', '/v1/vms'],
  ] as const;
  for (const [method, url] of closed) {
    test(`${method} ${url}`, async () => {
      const { status, text } = await api.anonymous(method, url);
      assert.equal(status, 401);
      assert.equal(text, method === 'HEAD' ? '' : '{"message":"Unauthorized"}');
    });
  }

  test('other spellings reach nothing', async () => {
    for (const url of ['//v1/vms', '/V1/vms', '/docs/../v1/vms', '/./v1/vms', '/docs/..%2Fv1%2Fvms', '\\v1\\vms']) {
      const { text } = await api.anonymous('GET', url);
      assert.doesNotMatch(text, new RegExp(vm), url);
    }
  });

  test('a wrong key is none', async () => {
    const wrong = [`${testKey}x`, testKey.slice(1), '', `rds_0123456789ab_${'x'.repeat(32)}`];
    for (const key of wrong) {
      assert.equal((await api.anonymous('GET', '/v1/vms', undefined, { 'x-api-key': key })).status, 401, key);
    }
  });
});

describe('API keys', () => {
  test('work until they are revoked, and cannot make others', async () => {
    const created = await api.call('POST', '/v1/admin/api-keys', { name: 'ci' });
    assert.equal(created.status, 201);
    const { apiKey, id, ...shown } = created.json;
    assert.match(apiKey, /^rds_[0-9a-f]{12}_[A-Za-z0-9_-]{32}$/);
    assert.deepEqual(Object.keys(shown), ['name', 'prefix', 'createdAt', 'expiresAt', 'revokedAt', 'lastUsedAt']);
    const stored = JSON.stringify([...api.keys.records.values()]);
    assert.ok(!stored.includes(apiKey.split('_').slice(2).join('_')));

    const headers = { 'x-api-key': apiKey };
    assert.equal((await api.anonymous('GET', '/v1/vms', undefined, headers)).status, 200);
    assert.equal((await api.anonymous('GET', '/v1/vms', undefined, headers)).status, 200);
    assert.equal(api.keys.touches, 1);
    assert.equal((await api.anonymous('POST', '/v1/admin/api-keys', { name: 'x' }, headers)).status, 403);
    const listed = (await api.call('GET', '/v1/admin/api-keys')).json;
    assert.ok(listed.every((key: object) => !('apiKey' in key) && !('hash' in key)));

    const altered = `${apiKey.slice(0, -1)}${apiKey.endsWith('A') ? 'B' : 'A'}`;
    assert.equal((await api.anonymous('GET', '/v1/vms', undefined, { 'x-api-key': altered })).status, 401);

    const revoked = await api.call('POST', `/v1/admin/api-keys/${id}/revoke`);
    assert.equal(revoked.status, 200);
    assert.notEqual(revoked.json.revokedAt, null);
    assert.equal((await api.anonymous('GET', '/v1/vms', undefined, headers)).status, 401);
  });

  test('expire', async () => {
    let now = Date.parse('2026-01-01T00:00:00Z');
    await using other = await createTestApi({ clock: () => now });
    const { json } = await other.call('POST', '/v1/admin/api-keys', { name: 'x', expiresAt: '2026-01-02T00:00:00Z' });
    assert.equal(json.expiresAt, '2026-01-02T00:00:00.000Z');
    const headers = { 'x-api-key': json.apiKey };
    assert.equal((await other.anonymous('GET', '/v1/vms', undefined, headers)).status, 200);
    now = Date.parse('2026-01-02T00:00:00Z');
    assert.equal((await other.anonymous('GET', '/v1/vms', undefined, headers)).status, 401);
    for (const expiresAt of ['soon', '2020-01-01T00:00:00Z']) {
      assert.equal((await other.call('POST', '/v1/admin/api-keys', { name: 'x', expiresAt })).status, 400);
    }
  });
});

describe('sessions', () => {
  test('log in, me, use, log out', async () => {
    const answer = await api.anonymous('POST', '/auth/login', testAdmin);
    assert.deepEqual([answer.status, answer.json], [200, { email: testAdmin.email }]);
    const cookie = cookieOf(answer);
    assert.match(cookie, /^rds_session=[\w-]{43}; Max-Age=43200; Path=\/; HttpOnly; SameSite=Lax$/);
    const headers = { cookie: cookie.split(';')[0] ?? '' };
    assert.deepEqual((await api.anonymous('GET', '/auth/me', undefined, headers)).json, { email: testAdmin.email });
    assert.equal((await api.anonymous('GET', '/v1/vms', undefined, headers)).status, 200);
    assert.equal((await api.anonymous('POST', '/v1/vms', smallVm, headers)).status, 201);
    assert.equal((await api.anonymous('GET', '/v1/admin/api-keys', undefined, headers)).status, 200);
    const out = await api.anonymous('POST', '/auth/logout', undefined, headers);
    assert.deepEqual(out.json, { ok: true });
    assert.match(cookieOf(out), /^rds_session=;/);
    assert.equal((await api.anonymous('GET', '/auth/me', undefined, headers)).status, 401);
    assert.equal((await api.anonymous('GET', '/v1/vms', undefined, headers)).status, 401);
  });

  test('me is for sessions', async () => {
    assert.deepEqual((await api.anonymous('GET', '/auth/me')).json, { message: 'Unauthorized' });
    assert.equal((await api.call('GET', '/auth/me')).status, 401);
  });

  test('wrong address or password', async () => {
    for (const change of [{ email: 'other@example.org' }, { password: 'wrong' }, { password: '' }]) {
      const answer = await api.anonymous('POST', '/auth/login', { ...testAdmin, ...change });
      assert.deepEqual([answer.status, answer.json], [401, { message: 'Invalid credentials' }]);
      assert.equal(answer.headers['set-cookie'], undefined);
    }
  });

  test('nobody logs in where there is no admin', async () => {
    await using other = await createTestApi({ auth: { apiKey: testKey, keys: api.keys, admin: null } });
    assert.equal((await other.anonymous('POST', '/auth/login', { email: '', password: '' })).status, 401);
  });

  test('expire', async () => {
    let now = 0;
    await using other = await createTestApi({ clock: () => now });
    const headers = await logIn(other);
    now = 12 * 3600 * 1000 - 1;
    assert.equal((await other.anonymous('GET', '/v1/vms', undefined, headers)).status, 200);
    now += 1;
    assert.equal((await other.anonymous('GET', '/v1/vms', undefined, headers)).status, 401);
  });

  test('the cookie is Secure behind a trusted https proxy only', async () => {
    const headers = { 'x-forwarded-proto': 'https' };
    assert.doesNotMatch(cookieOf(await api.anonymous('POST', '/auth/login', testAdmin, headers)), /Secure/);
    await using other = await createTestApi({ trustProxy: ['127.0.0.1'] });
    assert.match(cookieOf(await other.anonymous('POST', '/auth/login', testAdmin, headers)), /; Secure;/);
  });
});

describe('requests from other sites', () => {
  const cases: readonly [headers: Record<string, string>, status: number][] = [
    [{}, 201],
    [{ 'sec-fetch-site': 'same-origin' }, 201],
    [{ 'sec-fetch-site': 'cross-site' }, 403],
    [{ 'sec-fetch-site': 'same-site' }, 403],
    [{ origin: 'http://localhost:80' }, 201],
    [{ origin: 'http://evil.example' }, 403],
    [{ origin: 'null' }, 403],
  ];
  for (const [headers, status] of cases) {
    test(`a session's POST with ${JSON.stringify(headers)}: ${status}`, async () => {
      const session = await logIn();
      const host = { host: 'localhost' };
      assert.equal(
        (await api.anonymous('POST', '/v1/vms', smallVm, { ...host, ...session, ...headers })).status,
        status,
      );
    });
  }

  test('may read, use a key, but not log in', async () => {
    const foreign = { 'sec-fetch-site': 'cross-site' };
    assert.equal((await api.anonymous('GET', '/v1/vms', undefined, { ...(await logIn()), ...foreign })).status, 200);
    assert.equal((await api.call('POST', '/v1/vms', smallVm, foreign)).status, 201);
    assert.equal((await api.anonymous('POST', '/auth/login', testAdmin, foreign)).status, 403);
  });
});

describe('passwords', () => {
  test('verify against their hash only', async () => {
    const hash = await hashPassword('pässword');
    assert.match(hash, /^scrypt\$32768\$8\$1\$/);
    assert.equal(await verifyPassword('pässword', hash), true);
    assert.equal(await verifyPassword('passwort', hash), false);
    await assert.rejects(verifyPassword('x', 'plain'), /malformed/);
  });
});
