import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Json, openTestApi, smallConfig, type TestApi } from './testing/test-api.ts';
import { makeToken } from './tokens.ts';

const expected = (status: number) => (status === 401 ? 'unauthenticated' : status === 403 ? 'permission_denied' : '');

async function list(api: TestApi, headers: Record<string, string>): Promise<{ status: number; json: Json }> {
  return api.call('ListVms', {}, { authorization: '', ...headers });
}

describe('development tokens', () => {
  let api: TestApi;
  before(async () => {
    api = await openTestApi();
  });
  after(() => api[Symbol.asyncDispose]());

  for (const [token, status] of [
    ['Bearer dev_customer_123', 200],
    ['Bearer dev_user_123', 200],
    ['Bearer dev_customer_Acme-1.eu_x', 200],
    ['', 401],
    ['dev_customer_123', 401],
    ['bearer dev_customer_123', 401],
    ['Basic dev_customer_123', 401],
    ['Bearer', 401],
    ['Bearer other', 401],
    ['Bearer dev_customer_', 401],
    ['Bearer dev_customer_x,customer_id=victim', 401],
    ['Bearer dev_customer_victim;tenant=x', 401],
    ['Bearer dev_customer_%76ictim', 401],
    ['Bearer dev_customer_a b', 401],
    ['Bearer dev_customer_ä', 401],
    ['Bearer dev_customer_.', 401],
    [`Bearer dev_customer_${'x'.repeat(64)}`, 401],
  ] as const) {
    it(`${JSON.stringify(token)}: ${status}`, async () => {
      const { status: actual, json } = await list(api, { authorization: Buffer.from(token).toString('latin1') });
      assert.deepEqual([actual, json.code ?? ''], [status, expected(status)]);
    });
  }

  it('may come with a tenant, which must be an id', async () => {
    const authorization = 'Bearer dev_user_123';
    assert.equal((await list(api, { authorization, 'x-tenant-id': 'team-1' })).status, 200);
    assert.equal((await list(api, { authorization, 'x-tenant-id': 'a,b' })).status, 401);
  });

  it('are refused where development is not declared', async () => {
    await using production = await openTestApi({ auth: { development: false } });
    const { status, json } = await list(production, { authorization: 'Bearer dev_customer_123' });
    assert.deepEqual([status, json.message], [401, 'development tokens are not accepted here']);
  });
});

describe('customers', () => {
  const b = { authorization: 'Bearer dev_customer_b' };
  const calls = ['BootVm', 'ShutdownVm', 'PauseVm', 'ResumeVm', 'RebootVm', 'GetVmInfo', 'DeleteVm'];

  it('see and reach their own VMs only', async () => {
    await using api = await openTestApi();
    const created = await api.call('CreateVm', { vm_id: 'mine', config: smallConfig });
    assert.equal(created.status, 200);
    assert.equal((await api.call('ListVms', {}, b)).json.total_count, 0);
    for (const call of calls) {
      const { status, json } = await api.call(call, { vm_id: 'mine', force: true }, b);
      assert.deepEqual([call, status, json.details[0].reason], [call, 403, 'VM_NOT_OWNED']);
    }
    assert.equal((await api.call('CreateVm', { vm_id: 'mine', config: smallConfig }, b)).status, 409);
    assert.equal((await api.call('CreateVm', { config: smallConfig, customer_id: 'b' })).status, 403);
    assert.equal((await api.call('CreateVm', { config: smallConfig, customer_id: 'a' })).status, 200);
    assert.equal((await api.call('ListVms', {})).json.total_count, 2);
  });

  it('cannot tell whether a VM of others is there, where that is set', async () => {
    await using api = await openTestApi({ settings: { hideForeignVms: true } });
    await api.call('CreateVm', { vm_id: 'mine', config: smallConfig });
    for (const call of calls) {
      const [foreign, missing] = await Promise.all(
        ['mine', 'none'].map((id) => api.call(call, { vm_id: id, force: true }, b)),
      );
      const text = (reply: Json) => JSON.stringify(reply.json.message).replace(/mine|none/, '?');
      assert.deepEqual([foreign?.status, text(foreign)], [404, text(missing)]);
    }
  });
});

describe('tokens of the operator', () => {
  it('are good until they are revoked or at their end, and only whole', async () => {
    let now = Date.now();
    await using api = await openTestApi({ auth: { development: false }, clock: () => now });
    const { id, token, hash } = makeToken();
    const record = { id, customer: 'acme', hash, expiresAt: new Date(now + 60_000).toISOString(), revokedAt: null };
    const status = async (candidate: string) => (await list(api, { authorization: `Bearer ${candidate}` })).status;
    assert.equal(await status(token), 401, 'nobody made it');
    api.tokens.set(id, record);
    now += 2000;
    assert.equal(await status(token), 200);
    const created = await api.call(
      'CreateVm',
      { vm_id: 'v', config: smallConfig },
      { authorization: `Bearer ${token}` },
    );
    assert.equal(created.status, 200);
    assert.equal(api.vms.get('v').tenant, 'acme');
    const forged = token.slice(0, -1) + (token.endsWith('A') ? 'B' : 'A');
    assert.equal(await status(forged), 401);
    assert.equal(await status(token.slice(0, -1)), 401);
    api.tokens.set(id, { ...record, revokedAt: new Date(now).toISOString() });
    now += 1001;
    assert.equal(await status(token), 401, 'revoked');
    api.tokens.set(id, record);
    now += 1001;
    assert.equal(await status(token), 200);
    now += 60_000;
    assert.equal(await status(token), 401, 'expired');
  });
});
