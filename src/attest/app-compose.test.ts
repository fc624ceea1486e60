import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseAppCompose } from './app-compose.ts';

describe('parseAppCompose', () => {
  test('fills in what is missing or null', () => {
    const { text, hash, ...rest } = parseAppCompose('{"name":null,"public_logs":null,"constructor":1}');
    assert.equal(text, '{"name":null,"public_logs":null,"constructor":1}');
    assert.equal(hash.length, 32);
    assert.deepEqual(rest, {
      name: '',
      runner: 'docker-compose',
      publicLogs: false,
      publicSysinfo: false,
      publicTcbinfo: true,
      keyProvider: 'none',
      keyProviderId: '',
      allowedEnvs: [],
      noInstanceId: false,
      eventLogVersion: 1,
      storageFs: 'ext4',
    });
  });

  for (const [json, provider] of [
    ['{"kms_enabled":true}', 'kms'],
    ['{"local_key_provider_enabled":true}', 'local'],
    ['{"kms_enabled":true,"key_provider":"tpm"}', 'tpm'],
    ['{"kms_enabled":true,"key_provider":"none"}', 'none'],
  ] as const)
    test(`${json} has its keys from ${provider}`, () => assert.equal(parseAppCompose(json).keyProvider, provider));

  for (const [json, reason] of [
    ['', /not JSON/],
    ['[]', /not an object/],
    ['null', /not an object/],
    ['{"name":1}', /name: not a text/],
    ['{"public_logs":"yes"}', /public_logs: not true or false/],
    ['{"allowed_envs":"A"}', /allowed_envs: not a list/],
    ['{"allowed_envs":[1]}', /allowed_envs: not a list/],
    ['{"key_provider":"sgx"}', /key_provider: none of none, kms, local, tpm/],
    ['{"event_log_version":3}', /event_log_version: none of 1, 2/],
  ] as const)
    test(`refuses ${json || 'nothing'}`, () => {
      assert.throws(() => parseAppCompose(json), { code: 'invalid_argument', message: reason });
    });
});
