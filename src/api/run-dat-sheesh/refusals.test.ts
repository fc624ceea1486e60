/** What clients are refused, word for word: every golden row that does not need a real guest. The others are in contract.e2e.test.ts. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
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
  { name: 'an API key named by half a character', method: 'POST', path: '/v1/admin/api-keys', body: { name: '\ud800' }, status: 400, message: 'a text is not well-formed Unicode' },
  { name: 'an image named by half a character', method: 'POST', path: '/v1/images', body: { name: '\ud800', description: 'x' }, status: 400, message: 'a text is not well-formed Unicode' },
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
