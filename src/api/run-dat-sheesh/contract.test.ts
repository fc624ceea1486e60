/** The wire as clients know it: every golden row that does not need a real guest. The others are in contract.e2e.test.ts. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { FakeVms } from './testing/fake-vms.ts';
import { createTestApi, smallVm, type TestApi } from './testing/test-api.ts';

let api: TestApi;
let running: string;
let stopped: string;

before(async () => {
  api = await createTestApi();
  running = await api.createVm();
  stopped = await api.createVm();
  await api.vms.stop(stopped);
});

after(() => api.app.close());

interface Row {
  readonly name: string;
  readonly method: string;
  /** `R` stands for a running VM, `S` for a stopped one. */
  readonly path: string;
  readonly body?: unknown;
  readonly contentType?: string;
  readonly status: number;
  readonly message: string;
}

const small = smallVm;
const runTsBoth =
  "body must have required property 'code', body must have required property 'path', body must match a schema in anyOf";

// biome-ignore format: one row per line.
const rows: readonly Row[] = [
  { name: 'create {}', method: 'POST', path: '/v1/vms', body: {}, status: 400, message: "body must have required property 'cpu'" },
  { name: 'create without body', method: 'POST', path: '/v1/vms', status: 400, message: 'body must be object' },
  { name: 'create with a word as cpu', method: 'POST', path: '/v1/vms', body: { ...small, cpu: 'abc' }, status: 400, message: 'body/cpu must be number' },
  { name: 'create with XML', method: 'POST', path: '/v1/vms', body: '<vm/>', contentType: 'application/xml', status: 415, message: 'Unsupported Media Type: application/xml' },
  { name: 'create with empty JSON', method: 'POST', path: '/v1/vms', body: '', contentType: 'application/json', status: 400, message: "Body cannot be empty when content-type is set to 'application/json'" },
  { name: 'create with broken JSON', method: 'POST', path: '/v1/vms', body: '{', contentType: 'application/json', status: 400, message: "Expected property name or '}' in JSON at position 1 (line 1 column 2)" },
  { name: 'create with too much JSON', method: 'POST', path: '/v1/vms', body: { ...small, imageId: 'x'.repeat(70_000) }, status: 413, message: 'Request body is too large' },
  { name: 'create with 0 cpus', method: 'POST', path: '/v1/vms', body: { ...small, cpu: 0 }, status: 400, message: 'Invalid cpu (maxCpu=8)' },
  { name: 'create with 9 cpus', method: 'POST', path: '/v1/vms', body: { ...small, cpu: 9 }, status: 400, message: 'Invalid cpu (maxCpu=8)' },
  { name: 'create with 1.5 cpus', method: 'POST', path: '/v1/vms', body: { ...small, cpu: 1.5 }, status: 400, message: 'Invalid cpu (maxCpu=8)' },
  { name: 'create with too much memory', method: 'POST', path: '/v1/vms', body: { ...small, memMb: 8193 }, status: 400, message: 'Invalid memMb (maxMemMb=8192)' },
  { name: 'create with negative memory', method: 'POST', path: '/v1/vms', body: { ...small, memMb: -1 }, status: 400, message: 'Invalid memMb (maxMemMb=8192)' },
  { name: 'create with too little memory', method: 'POST', path: '/v1/vms', body: { ...small, memMb: 64 }, status: 400, message: 'Invalid memMb (minMemMb=128)' },
  { name: 'create with 65 allowIps', method: 'POST', path: '/v1/vms', body: { ...small, allowIps: Array(65).fill('10.0.0.1') }, status: 400, message: 'Too many allowIps (maxAllowIps=64)' },
  { name: 'create with an empty allowIps entry', method: 'POST', path: '/v1/vms', body: { ...small, allowIps: [''] }, status: 400, message: 'Invalid allowIps entry' },
  { name: 'create with words in allowIps', method: 'POST', path: '/v1/vms', body: { ...small, allowIps: ['not an ip'] }, status: 400, message: 'Invalid IP address or CIDR: not an ip' },
  { name: 'create with diskSizeMb null', method: 'POST', path: '/v1/vms', body: { ...small, diskSizeMb: null }, status: 400, message: 'Invalid diskSizeMb' },
  { name: 'create with a huge disk', method: 'POST', path: '/v1/vms', body: { ...small, diskSizeMb: 1_048_577 }, status: 400, message: 'diskSizeMb too large' },
  { name: 'create with an unknown image', method: 'POST', path: '/v1/vms', body: { ...small, imageId: 'img-none' }, status: 404, message: 'Image not found' },
  { name: 'create with an unknown snapshot', method: 'POST', path: '/v1/vms', body: { ...small, snapshotId: 'snap-none' }, status: 404, message: 'Snapshot not found' },
  { name: 'create with a path as snapshot', method: 'POST', path: '/v1/vms', body: { ...small, snapshotId: '../../x' }, status: 404, message: 'Snapshot not found' },
  { name: 'create from a seed', method: 'POST', path: '/v1/vms', body: { ...small, snapshotId: 'seed-img-1' }, status: 400, message: 'Snapshot kind cannot be used as a user overlay baseline' },
  { name: 'create with secretEnv', method: 'POST', path: '/v1/vms', body: { ...small, secretEnv: ['A=b'] }, status: 400, message: 'secretEnv is not supported' },
  { name: 'create with peerLinks', method: 'POST', path: '/v1/vms', body: { ...small, peerLinks: [{ alias: 'a', vmId: 'b' }] }, status: 400, message: 'peerLinks is not supported' },
  { name: 'get unknown', method: 'GET', path: '/v1/vms/nope', status: 404, message: 'VM not found' },
  { name: 'get without id', method: 'GET', path: '/v1/vms/', status: 400, message: 'Invalid VM id' },
  { name: 'get undefined', method: 'GET', path: '/v1/vms/undefined', status: 400, message: 'Invalid VM id' },
  { name: 'get Null', method: 'GET', path: '/v1/vms/%20Null', status: 400, message: 'Invalid VM id' },
  { name: 'get a path', method: 'GET', path: '/v1/vms/..%2F..%2Fetc', status: 404, message: 'VM not found' },
  { name: 'delete unknown', method: 'DELETE', path: '/v1/vms/nope', status: 404, message: 'VM nope not found' },
  { name: 'start while running', method: 'POST', path: '/v1/vms/R/start', status: 409, message: 'VM must be STOPPED to start (state=RUNNING)' },
  { name: 'start unknown', method: 'POST', path: '/v1/vms/nope/start', status: 404, message: 'VM nope not found' },
  { name: 'stop while stopped', method: 'POST', path: '/v1/vms/S/stop', status: 409, message: 'VM must be RUNNING to stop (state=STOPPED)' },
  { name: 'exec {}', method: 'POST', path: '/v1/vms/R/exec', body: {}, status: 400, message: "body must have required property 'cmd'" },
  { name: 'exec with a list as env', method: 'POST', path: '/v1/vms/R/exec', body: { cmd: 'x', env: ['A=b'] }, status: 400, message: 'body/env must be object' },
  { name: 'exec with too long a limit', method: 'POST', path: '/v1/vms/R/exec', body: { cmd: 'x', timeoutMs: 120_001 }, status: 400, message: 'timeoutMs exceeds maxExecTimeoutMs=120000' },
  { name: 'exec with NUL', method: 'POST', path: '/v1/vms/R/exec', body: { cmd: 'a\0b' }, status: 400, message: 'Invalid cmd' },
  { name: 'exec with an odd variable', method: 'POST', path: '/v1/vms/R/exec', body: { cmd: 'x', env: { 'a=b': 'c' } }, status: 400, message: 'Invalid env var name: a=b' },
  { name: 'exec in unknown', method: 'POST', path: '/v1/vms/nope/exec', body: { cmd: 'x' }, status: 404, message: 'VM nope not found' },
  { name: 'exec while stopped', method: 'POST', path: '/v1/vms/S/exec', body: { cmd: 'x' }, status: 409, message: 'VM must be RUNNING to exec (state=STOPPED)' },
  { name: 'exec with too much', method: 'POST', path: '/v1/vms/R/exec', body: { cmd: 'x'.repeat(1024 * 1024) }, status: 413, message: 'Request body is too large' },
  { name: 'run-ts {}', method: 'POST', path: '/v1/vms/R/run-ts', body: {}, status: 400, message: runTsBoth },
  { name: 'run-ts with empty code', method: 'POST', path: '/v1/vms/R/run-ts', body: { code: '' }, status: 400, message: 'Invalid request body' },
  { name: 'run-ts with a bad variable', method: 'POST', path: '/v1/vms/R/run-ts', body: { code: '1', env: ['noeq'] }, status: 400, message: 'Invalid env entry (expected KEY=value): noeq' },
  { name: 'run-ts with a bad name', method: 'POST', path: '/v1/vms/R/run-ts', body: { code: '1', env: ['1a=x'] }, status: 400, message: 'Invalid env var name: 1a' },
  { name: 'run-ts outside', method: 'POST', path: '/v1/vms/R/run-ts', body: { path: '/etc/passwd' }, status: 400, message: 'Only /workspace paths are allowed' },
  { name: 'run-ts with too long a limit', method: 'POST', path: '/v1/vms/R/run-ts', body: { code: '1', timeoutMs: 120_001 }, status: 400, message: 'timeoutMs exceeds maxRunTsTimeoutMs=120000' },
  { name: 'run-ts while stopped', method: 'POST', path: '/v1/vms/S/run-ts', body: { code: '1' }, status: 409, message: 'VM must be RUNNING to run-ts (state=STOPPED)' },
  { name: 'run-js {}', method: 'POST', path: '/v1/vms/R/run-js', body: {}, status: 400, message: runTsBoth },
  { name: 'upload without dest', method: 'POST', path: '/v1/vms/R/files/upload', body: 'x', contentType: 'application/gzip', status: 400, message: "querystring must have required property 'dest'" },
  { name: 'upload to nothing', method: 'POST', path: '/v1/vms/R/files/upload?dest=', body: 'x', contentType: 'application/gzip', status: 400, message: 'dest is required' },
  { name: 'upload beside the workspace', method: 'POST', path: '/v1/vms/R/files/upload?dest=/workspacex', body: 'x', contentType: 'application/gzip', status: 400, message: 'Only /workspace paths are allowed' },
  { name: 'upload what is no archive', method: 'POST', path: '/v1/vms/R/files/upload?dest=/workspace', body: 'x', contentType: 'application/gzip', status: 400, message: 'Invalid tar archive' },
  { name: 'upload 11 MiB', method: 'POST', path: '/v1/vms/R/files/upload?dest=/workspace', body: Buffer.alloc(11 * 1024 * 1024), contentType: 'application/gzip', status: 413, message: 'Body too large' },
  { name: 'upload without content type', method: 'POST', path: '/v1/vms/R/files/upload?dest=/workspace', status: 415, message: 'Unsupported Media Type: undefined' },
  { name: 'upload JSON', method: 'POST', path: '/v1/vms/R/files/upload?dest=/workspace', body: {}, status: 415, message: 'Unsupported Media Type: application/json' },
  { name: 'upload while stopped', method: 'POST', path: '/v1/vms/S/files/upload?dest=/workspace', body: 'x', contentType: 'application/gzip', status: 409, message: 'VM must be RUNNING to upload files (state=STOPPED)' },
  { name: 'download without path', method: 'GET', path: '/v1/vms/R/files/download', status: 400, message: "querystring must have required property 'path'" },
  { name: 'download nothing', method: 'GET', path: '/v1/vms/R/files/download?path=', status: 400, message: 'path is required' },
  { name: 'download outside', method: 'GET', path: '/v1/vms/R/files/download?path=/etc', status: 400, message: 'Invalid download path' },
  { name: 'download upwards', method: 'GET', path: '/v1/vms/R/files/download?path=/workspace/../etc', status: 400, message: 'Invalid download path' },
  { name: 'download what is missing', method: 'GET', path: '/v1/vms/R/files/download?path=/workspace/missing', status: 400, message: 'Invalid download path' },
  { name: 'logs of no type', method: 'GET', path: '/v1/vms/R/logs?type=x', status: 400, message: 'Invalid log type' },
  { name: 'logs with a word as tail', method: 'GET', path: '/v1/vms/R/logs?tail=x', status: 400, message: 'querystring/tail must be number' },
  { name: 'logs of unknown', method: 'GET', path: '/v1/vms/nope/logs', status: 404, message: 'VM nope not found' },
  { name: 'exec-logs of unknown', method: 'GET', path: '/v1/vms/nope/exec-logs', status: 404, message: 'VM not found' },
  { name: 'snapshot while stopped', method: 'POST', path: '/v1/vms/S/snapshots', status: 409, message: 'VM must be RUNNING to snapshot (state=STOPPED)' },
  { name: 'snapshots of no scope', method: 'GET', path: '/v1/snapshots?scope=mine', status: 400, message: 'Invalid scope' },
  { name: 'image without name', method: 'POST', path: '/v1/images', body: { name: ' ', description: 'd' }, status: 400, message: 'name and description are required' },
  { name: 'kernel of an unknown image', method: 'PUT', path: '/v1/images/img-none/kernel', body: 'x', contentType: 'application/octet-stream', status: 404, message: 'Image not found' },
  { name: 'default to an unknown image', method: 'POST', path: '/v1/images/img-none/set-default', status: 404, message: 'Image not found' },
  { name: 'delete an unknown image', method: 'DELETE', path: '/v1/images/..%2F..', status: 404, message: 'Image not found' },
  { name: 'revoke an unknown key', method: 'POST', path: '/v1/admin/api-keys/none/revoke', status: 404, message: 'Not found' },
  { name: 'unknown route', method: 'GET', path: '/v1/none', status: 404, message: 'Not Found' },
  { name: 'unknown method', method: 'PUT', path: '/v1/vms', status: 404, message: 'Not Found' },
  { name: 'OPTIONS', method: 'OPTIONS', path: '/v1/vms', status: 404, message: 'Not Found' },
  { name: 'unknown page', method: 'GET', path: '/none', status: 404, message: 'Not Found' },
  { name: 'malformed URL', method: 'GET', path: '/v1/vms/%zz', status: 400, message: "'/v1/vms/%zz' is not a valid url component" },
];

describe('refusals', () => {
  for (const row of rows) {
    test(`${row.name}: ${row.status}`, async () => {
      const path = row.path.replace('/R/', `/${running}/`).replace('/S/', `/${stopped}/`);
      const headers = row.contentType === undefined ? {} : { 'content-type': row.contentType };
      const answer = await api.call(row.method, path, row.body, headers);
      assert.deepEqual([answer.status, answer.text], [row.status, JSON.stringify({ message: row.message })]);
      assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
    });
  }
});

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

describe('snapshots', () => {
  test('are shown with both names of their VM', async () => {
    await using other = await createTestApi();
    const id = await other.createVm();
    const { status, json } = await other.call('POST', `/v1/vms/${id}/snapshots`);
    assert.equal(status, 201);
    assert.match(json.id, /^snap-/);
    const imageId = 'img-00000000-0000-4000-8000-000000000000';
    const expected = {
      id: json.id,
      kind: 'user_overlay',
      createdAt: '2026-01-02T03:04:05.678Z',
      cpu: 1,
      memMb: 256,
      imageId,
      baseSeedSnapshotId: `seed-${imageId}`,
      sourceVmId: id,
      vmId: id,
      hasDisk: false,
      hasOverlay: true,
    };
    assert.deepEqual(json, expected);
    assert.deepEqual((await other.call('GET', '/v1/snapshots')).json, [expected]);
    assert.deepEqual((await other.call('GET', '/v1/snapshots?scope=internal')).json, []);
  });

  test('the seed of a complete image is internal', async () => {
    await using other = await createTestApi();
    const image = await other.images.create({ name: 'n', description: 'd' });
    const stream = { 'content-type': 'application/octet-stream' };
    await other.call('PUT', `/v1/images/${image.id}/kernel`, 'k', stream);
    assert.deepEqual((await other.call('GET', '/v1/snapshots?scope=internal')).json, []);
    await other.call('PUT', `/v1/images/${image.id}/rootfs`, 'r', stream);
    const [seed] = (await other.call('GET', '/v1/snapshots?scope=internal')).json;
    assert.deepEqual([seed.id, seed.kind, seed.internal], [`seed-${image.id}`, 'image_seed', true]);
    assert.deepEqual((await other.call('GET', '/v1/snapshots')).json, []);
    assert.equal((await other.call('GET', '/v1/snapshots?scope=all')).json.length, 1);
  });
});

describe('images', () => {
  test('from creation to deletion', async () => {
    await using other = await createTestApi();
    const created = await other.call('POST', '/v1/images', { name: ' n ', description: 'd' });
    const { id } = created.json;
    assert.equal(created.status, 201);
    assert.match(id, /^img-/);
    const fresh = {
      id,
      name: 'n',
      description: 'd',
      createdAt: '2026-01-02T03:04:05.678Z',
      kernelFilename: null,
      rootfsFilename: null,
      baseRootfsBytes: null,
      seedSnapshotId: null,
      seedStatus: null,
      seedUpdatedAt: null,
      seedError: null,
    };
    assert.deepEqual(created.json, fresh);
    const stream = { 'content-type': 'application/octet-stream' };
    for (const part of ['kernel', 'rootfs']) {
      const answer = await other.call('PUT', `/v1/images/${id}/${part}`, 'bytes', stream);
      assert.deepEqual([answer.status, answer.text], [204, '']);
    }
    assert.equal((await other.call('POST', `/v1/images/${id}/set-default`)).status, 204);
    assert.deepEqual((await other.call('GET', '/v1/images')).json, [
      {
        ...fresh,
        kernelFilename: 'vmlinux',
        rootfsFilename: 'rootfs.ext4',
        baseRootfsBytes: 5,
        seedSnapshotId: `seed-${id}`,
        seedStatus: 'ready',
        seedUpdatedAt: '2026-01-02T03:04:05.678Z',
        kernelUploadedAt: '2026-01-02T03:04:05.678Z',
        rootfsUploadedAt: '2026-01-02T03:04:05.678Z',
        isDefault: true,
        hasKernel: true,
        hasRootfs: true,
      },
    ]);
    other.images.used.add(id);
    const refused = await other.call('DELETE', `/v1/images/${id}`);
    assert.deepEqual([refused.status, refused.text], [409, '{"message":"Image is in use by an active VM"}']);
    other.images.used.clear();
    assert.equal((await other.call('DELETE', `/v1/images/${id}`)).status, 204);
  });

  test('a bundle, and bodies that are none', async () => {
    await using other = await createTestApi();
    const { id } = await other.images.create({ name: 'n', description: 'd' });
    const put = (part: string, type: string, body: unknown) =>
      other.call('PUT', `/v1/images/${id}/${part}`, body, { 'content-type': type });
    assert.equal((await put('bundle', 'application/x-zip-compressed', 'zip')).status, 204);
    assert.equal((await put('kernel', 'application/json', {})).status, 415);
    assert.equal((await put('kernel', 'application/octet-stream', '')).status, 400);
    assert.equal((await other.call('PUT', `/v1/images/${id}/kernel`)).status, 415);
  });

  test('a VM may name its image', async () => {
    const { id } = await api.images.create({ name: 'by-name', description: 'd' });
    await api.call('POST', '/v1/vms', { ...small, imageId: 'by-name' });
    assert.equal(api.vms.requests.at(-1)?.imageId, id);
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
