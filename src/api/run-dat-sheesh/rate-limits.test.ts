import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultRateLimits } from './settings.ts';
import { createTestApi, noRateLimits, smallVm, testAdmin } from './testing/test-api.ts';

describe('rate limits', () => {
  test('the 61st run-ts in a minute', async () => {
    await using api = await createTestApi({ rateLimits: defaultRateLimits });
    const id = await api.createVm();
    const run = () => api.call('POST', `/v1/vms/${id}/run-ts`, { code: '1' });
    const first = await run();
    assert.deepEqual(
      ['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset'].map((name) => Number(first.headers[name])),
      [60, 59, 60],
    );
    for (let count = 2; count <= 60; count += 1) assert.equal((await run()).status, 200);
    const { status, text, headers } = await run();
    assert.equal(status, 429);
    assert.equal(text, '{"message":"Rate limit exceeded, retry in 1 minute"}');
    assert.equal(Number(headers['x-ratelimit-limit']), 60);
    assert.equal(Number(headers['x-ratelimit-remaining']), 0);
    assert.ok('x-ratelimit-reset' in headers);
    assert.equal(headers['retry-after'], headers['x-ratelimit-reset']);
    // Other buckets are untouched.
    assert.equal((await api.call('POST', `/v1/vms/${id}/exec`, { cmd: 'x' })).status, 200);
  });

  test('other routes share a bucket, which HEAD and GET both use up', async () => {
    await using api = await createTestApi({ rateLimits: { ...noRateLimits, others: 3 } });
    const statuses = [];
    for (const [method, path] of [
      ['GET', '/v1/vms'],
      ['GET', '/v1/images'],
      ['HEAD', '/v1/snapshots'],
      ['GET', '/v1/vms'],
    ] as const) {
      statuses.push((await api.call(method, path)).status);
    }
    assert.deepEqual(statuses, [200, 200, 200, 429]);
  });

  test('strangers cannot use up the bucket of a key', async () => {
    await using api = await createTestApi({ rateLimits: { ...noRateLimits, others: 2 } });
    const strangers = [];
    for (let count = 0; count < 4; count += 1) strangers.push((await api.anonymous('GET', '/v1/vms')).status);
    assert.deepEqual(strangers, [401, 401, 429, 429]);
    assert.equal((await api.call('GET', '/v1/vms')).status, 200);
  });

  test('each key has its own bucket', async () => {
    await using api = await createTestApi({ rateLimits: { ...noRateLimits, others: 2 } });
    const { apiKey } = (await api.call('POST', '/v1/admin/api-keys', { name: 'a' })).json;
    const withKey = () => api.anonymous('GET', '/v1/vms', undefined, { 'x-api-key': apiKey });
    assert.deepEqual([(await withKey()).status, (await withKey()).status, (await withKey()).status], [200, 200, 429]);
    assert.equal((await api.call('GET', '/v1/vms')).status, 200);
  });

  test('log-ins are limited by address, whatever key comes along', async () => {
    await using api = await createTestApi({ rateLimits: { ...noRateLimits, login: 2 } });
    const statuses = [];
    for (let count = 0; count < 2; count += 1) {
      statuses.push((await api.anonymous('POST', '/auth/login', { ...testAdmin, password: 'x' })).status);
    }
    statuses.push((await api.call('POST', '/auth/login', testAdmin)).status);
    assert.deepEqual(statuses, [401, 401, 429]);
  });

  test('0 switches a limit off', async () => {
    await using api = await createTestApi({ rateLimits: noRateLimits });
    const answer = await api.call('POST', '/v1/vms', smallVm);
    assert.equal(answer.status, 201);
    assert.equal(answer.headers['x-ratelimit-limit'], undefined);
  });

  test('documentation and unknown routes are not limited', async () => {
    await using api = await createTestApi({ rateLimits: { ...noRateLimits, others: 1 } });
    for (const path of ['/openapi.json', '/docs', '/swagger/json', '/v1/none', '/none']) {
      assert.equal((await api.call('GET', path)).headers['x-ratelimit-limit'], undefined, path);
    }
  });
});
