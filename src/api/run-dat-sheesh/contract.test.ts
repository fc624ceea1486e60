/** The wire as clients know it. What they are refused is in refusals.test.ts, what needs a real guest in contract.e2e.test.ts. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { FakeVms } from './testing/fake-vms.ts';
import { createTestApi, smallVm as small, type TestApi } from './testing/test-api.ts';

let api: TestApi;
let running: string;

before(async () => {
  api = await createTestApi();
  running = await api.createVm();
});

after(() => api.app.close());

describe('VMs', () => {
  test('create answers with all members in the original order', async () => {
    const { status, json } = await api.call('POST', '/v1/vms', {
      ...small,
      outboundInternet: true,
      allowIps: ['10.1.2.3/8'],
    });
    assert.equal(status, 201);
    assert.deepEqual(Object.keys(json), [
      'id', 'state', 'cpu', 'memMb', 'guestIp', 'outboundInternet', 'createdAt', 'provisionMode', 'imageId', 'peerLinks',
    ]); // biome-ignore format: as on the wire
    assert.match(json.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.deepEqual(
      { ...json, id: '', guestIp: '' },
      {
        id: '',
        state: 'RUNNING',
        cpu: 1,
        memMb: 256,
        guestIp: '',
        outboundInternet: true,
        createdAt: '2026-01-02T03:04:05.678Z',
        provisionMode: 'boot',
        imageId: 'img-00000000-0000-4000-8000-000000000000',
        peerLinks: [],
      },
    );
    assert.deepEqual(api.vms.requests.at(-1)?.egress, { outbound: true, allow: ['10.0.0.0/8'] });
  });

  test('values are coerced as the original does, and unknown members ignored', async () => {
    const body = {
      cpu: '2',
      memMb: '256',
      allowIps: '10.0.0.1',
      outboundInternet: 'true',
      peerLinks: [],
      secretEnv: [],
      other: 1,
    };
    const { status, json } = await api.call('POST', '/v1/vms', body);
    assert.equal(status, 201);
    assert.deepEqual([json.cpu, json.memMb, json.outboundInternet], [2, 256, true]);
    assert.deepEqual(api.vms.requests.at(-1)?.egress.allow, ['10.0.0.1/32']);
  });

  test('userOverlaySnapshotId wins over snapshotId, and an empty one is none', async () => {
    const snapshot = (await api.call('POST', `/v1/vms/${running}/snapshots`)).json.id;
    const body = { ...small, snapshotId: 'snap-none', userOverlaySnapshotId: ` ${snapshot} ` };
    assert.equal((await api.call('POST', '/v1/vms', body)).status, 201);
    assert.equal(api.vms.requests.at(-1)?.snapshotId, snapshot);
    assert.equal((await api.call('POST', '/v1/vms', { ...small, snapshotId: ' ' })).status, 201);
    assert.equal(api.vms.requests.at(-1)?.snapshotId, undefined);
  });

  test('the 21st VM is over the quota', async () => {
    await using other = await createTestApi();
    for (let count = 0; count < 20; count += 1) await other.createVm();
    const { status, text, headers } = await other.call('POST', '/v1/vms', small);
    assert.deepEqual([status, text], [429, '{"message":"VM quota exceeded (maxVms=20)"}']);
    assert.equal(headers['retry-after'], undefined);
  });

  test('a VM whose boot failed is ERROR and has no provisionMode', async () => {
    await using other = await createTestApi();
    const id = await other.createVm();
    other.vms.force(id, { state: 'failed', startMode: null });
    const { json } = await other.call('GET', '/v1/vms');
    assert.equal(json.length, 1);
    assert.equal(json[0].state, 'ERROR');
    assert.ok(!('provisionMode' in json[0]));
  });

  test('list, get, stop, start, delete and delete again', async () => {
    await using other = await createTestApi();
    assert.equal((await other.call('GET', '/v1/vms')).text, '[]');
    const id = await other.createVm();
    const state = async () => (await other.call('GET', `/v1/vms/${id}`)).json.state;
    for (const [action, expected] of [
      ['stop', 'STOPPED'],
      ['start', 'RUNNING'],
    ] as const) {
      const answer = await other.call('POST', `/v1/vms/${id}/${action}`);
      assert.deepEqual([answer.status, answer.text, answer.headers['content-type']], [204, '', undefined]);
      assert.equal(await state(), expected);
    }
    assert.equal((await other.call('GET', '/v1/vms')).json.length, 1);
    assert.equal((await other.call('DELETE', `/v1/vms/${id}`)).status, 204);
    assert.equal((await other.call('DELETE', `/v1/vms/${id}`)).status, 404);
    assert.equal((await other.call('GET', '/v1/vms')).text, '[]');
  });

  test('a paused VM is shown as STOPPED and can be started', async () => {
    await using other = await createTestApi();
    const id = await other.createVm();
    other.vms.force(id, { state: 'paused' });
    assert.equal((await other.call('GET', `/v1/vms/${id}`)).json.state, 'STOPPED');
    assert.equal((await other.call('POST', `/v1/vms/${id}/start`)).status, 204);
    assert.equal(other.vms.get(id).state, 'running');
  });

  test('DELETE with a JSON content type and no body', async () => {
    const id = await api.createVm();
    assert.equal((await api.call('DELETE', `/v1/vms/${id}`, '', { 'content-type': 'application/json' })).status, 204);
  });

  test('HEAD answers as GET without a body', async () => {
    for (const path of ['/v1/vms', `/v1/vms/${running}`, '/v1/images', `/v1/vms/${running}/files/download?path=.`]) {
      const answer = await api.call('HEAD', path);
      assert.deepEqual([answer.status, answer.text], [200, ''], path);
    }
  });

  test('a failure of ours tells nothing but its number', async () => {
    const vms = new FakeVms();
    vms.create = async () => {
      throw new Error('/var/lib/berth/secret');
    };
    await using other = await createTestApi({ vms });
    const { status, json } = await other.call('POST', '/v1/vms', small);
    assert.equal(status, 500);
    assert.deepEqual(Object.keys(json), ['message', 'requestId']);
    assert.equal(json.message, 'Internal Server Error');
    assert.match(json.requestId, /^req-[0-9a-z]+$/);
  });
});

describe('logs', () => {
  test('of the engine when no type is given, without updatedAt while there is no file', async () => {
    const { text } = await api.call('GET', `/v1/vms/${running}/logs?tail=2`);
    assert.equal(text, '{"type":"firecracker.log","lines":["engine 3","engine 4"],"truncated":true}');
  });

  test('of the console', async () => {
    const { json } = await api.call('GET', `/v1/vms/${running}/logs?type=firecracker.stdout.log&tail=0`);
    assert.deepEqual(json, {
      type: 'firecracker.stdout.log',
      lines: ['console 4'],
      truncated: true,
      updatedAt: '2026-01-02T03:04:05.678Z',
    });
  });
});

describe('pages', () => {
  test('the API document', async () => {
    const { status, json } = await api.anonymous('GET', '/openapi.json');
    assert.equal(status, 200);
    assert.equal(json.openapi, '3.0.3');
    assert.equal(json.info.title, 'run-dat-sheesh manager API');
    assert.deepEqual(json.components.securitySchemes.ApiKeyAuth, { type: 'apiKey', in: 'header', name: 'X-API-Key' });
    const operations = Object.values(json.paths as Record<string, Record<string, { operationId?: string }>>).flatMap(
      (item) => Object.values(item).map(({ operationId }) => operationId),
    );
    assert.ok(operations.every((id) => typeof id === 'string'));
    assert.equal(new Set(operations).size, operations.length);
    assert.ok(json.paths['/v1/vms/{id}/files/upload'].post.requestBody.content['application/gzip']);
    assert.ok(!('/v1/*' in json.paths));
  });

  test('the explorer and the documentation need nothing from elsewhere', async () => {
    for (const path of ['/swagger', '/docs', '/docs/any', '/swagger/json']) {
      assert.equal((await api.anonymous('GET', path)).status, 200, path);
    }
    for (const path of ['/swagger', '/docs']) {
      const { text, headers } = await api.anonymous('GET', path);
      assert.doesNotMatch(text, /(src|href)="(https?:)?\/\//);
      assert.match(String(headers['content-security-policy']), /default-src '(self|none)'/);
    }
    assert.match((await api.anonymous('GET', '/docs')).text, /GET \/v1\/vms\/{id}/);
  });
});

describe('administration', () => {
  test('the overview', async () => {
    await using other = await createTestApi();
    await other.createVm();
    assert.deepEqual((await other.call('GET', '/v1/admin/overview')).json, {
      counts: { activeVms: 1, snapshots: 0, templates: 0 },
      cpu: { usagePct: 0.25, capacityCores: 2, usedCores: 1 },
      memory: { usedBytes: 1, capacityBytes: 2 },
      storage: { usedBytes: 3, capacityBytes: 4 },
    });
  });

  test('activity tells what happened and no command', async () => {
    await using other = await createTestApi();
    const id = await other.createVm();
    await other.call('POST', `/v1/vms/${id}/exec`, { cmd: 'secret-command' });
    const { json, text } = await other.call('GET', '/v1/admin/activity?limit=1');
    assert.equal(json.length, 1);
    assert.equal(json[0].type, 'exec.command');
    assert.deepEqual(JSON.parse(json[0].metaJson), { exitCode: 0, timedOut: false });
    assert.doesNotMatch(text, /secret/);
    const all = (await other.call('GET', '/v1/admin/activity')).json;
    assert.deepEqual(
      all.map((item: { type: string }) => item.type),
      ['exec.command', 'vm.created'],
    );
  });

  test('what ran is remembered without the values of variables', async () => {
    await using other = await createTestApi();
    const id = await other.createVm();
    other.vms.fakeGuest.onExec = () => ({ stdout: [Buffer.from('out')] });
    await other.call('POST', `/v1/vms/${id}/exec`, { cmd: 'first', env: { TOKEN: 'hidden' } });
    await other.call('POST', `/v1/vms/${id}/run-ts`, { code: 'second', env: ['TOKEN=hidden'] });
    const { json, text } = await other.call('GET', `/v1/vms/${id}/exec-logs?limit=1`);
    assert.equal(json.hasMore, true);
    assert.equal(json.entries.length, 1);
    assert.deepEqual(json.entries[0].input, { code: 'second', env: ['TOKEN=***'] });
    assert.deepEqual(json.entries[0].result, { exitCode: 0, stdout: 'out', stderr: '' });
    assert.doesNotMatch(text, /hidden/);
    const exec = (await other.call('GET', `/v1/vms/${id}/exec-logs?type=exec`)).json;
    assert.deepEqual(exec.entries[0].input, { cmd: 'first', env: ['TOKEN=***'] });
    assert.equal(exec.entries[0].type, 'exec');
  });
});
