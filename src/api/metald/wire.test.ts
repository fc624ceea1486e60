/** The wire, byte by byte: statuses, headers and JSON that no client library shows. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { createConnection } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { openTestApi, smallConfig, type TestApi } from './testing/test-api.ts';

const service = '/vmprovisioner.v1.VmService';
const json = { 'content-type': 'application/json', authorization: 'Bearer dev_customer_a' };

let api: TestApi;
before(async () => {
  api = await openTestApi();
});
after(() => api[Symbol.asyncDispose]());

function post(
  path: string,
  headers: Record<string, string>,
  body: string | Uint8Array<ArrayBuffer> = '{}',
): Promise<Response> {
  return fetch(api.url + path, { method: 'POST', headers, body });
}

describe('requests that are no calls', () => {
  for (const [what, method, path, headers, status, more] of [
    ['another method', 'GET', `${service}/ListVms`, json, 405, { allow: 'POST' }],
    ['no content type', 'POST', `${service}/ListVms`, { 'content-type': '' }, 415, {}],
    ['a text', 'POST', `${service}/ListVms`, { 'content-type': 'text/plain' }, 415, {}],
    ['another charset', 'POST', `${service}/ListVms`, { 'content-type': 'application/json; charset=latin1' }, 415, {}],
    ['a stream', 'POST', `${service}/ListVms`, { 'content-type': 'application/connect+json' }, 415, {}],
    ['an unknown call', 'POST', `${service}/Explode`, json, 404, {}],
    ['an unknown service', 'POST', '/other.v1.Service/ListVms', json, 404, {}],
    ['reflection, which is off', 'POST', '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', json, 404, {}],
    ['no path', 'GET', '/', {}, 404, {}],
    ['another method of the list', 'POST', '/v1/vms', json, 404, {}],
  ] as const) {
    it(`${what}: ${status}`, async () => {
      const body = method === 'POST' ? { body: Buffer.from('{}') } : {};
      const response = await fetch(api.url + path, { method, headers, ...body });
      assert.equal(response.status, status);
      for (const [name, value] of Object.entries(more)) assert.equal(response.headers.get(name), value);
      assert.equal(await response.text(), status === 404 ? '404 page not found\n' : '');
      const takes = response.headers.get('accept-post') ?? '';
      assert.equal(takes.includes('application/grpc-web+proto'), status === 415, takes);
    });
  }
});

describe('calls in JSON', () => {
  it('have their content type echoed and say what they take', async () => {
    for (const type of ['application/json', 'application/json; charset=utf-8']) {
      const response = await post(`${service}/ListVms`, { ...json, 'content-type': type });
      assert.deepEqual(
        [response.status, response.headers.get('content-type'), response.headers.get('accept-encoding')],
        [200, type, 'gzip'],
      );
      assert.deepEqual(await response.json(), { vms: [], next_page_token: '', total_count: 0 });
    }
  });

  it('list VMs under the path of the reference, too', async () => {
    const response = await fetch(`${api.url}/v1/vms`, { headers: { authorization: 'Bearer dev_customer_a' } });
    assert.deepEqual([response.status, await response.json()], [200, { vms: [], next_page_token: '', total_count: 0 }]);
    assert.equal((await fetch(`${api.url}/v1/vms`)).status, 401);
  });

  it('are the same under the later package name', async () => {
    const response = await post('/metal.vmprovisioner.v1.VmService/ListVms', json);
    assert.equal(((await response.json()) as { total_count: number }).total_count, 0);
  });

  for (const [what, headers, body, message] of [
    ['an empty body', {}, '', /^unmarshal message: zero-length payload is not a valid JSON object$/],
    ['broken JSON', {}, '{', /^unmarshal message: /],
    ['a body that is no object', {}, '[]', /^unmarshal message: /],
    ['a fraction', {}, '{"page_size": 1.5}', /^unmarshal message: .*ListVmsRequest\.page_size/],
    ['both spellings of a field', {}, '{"page_size": 1, "pageSize": 1}', /^unmarshal message: /],
    [
      'an unknown protocol',
      { 'connect-protocol-version': '2' },
      '{}',
      /^Connect-Protocol-Version must be "1": got "2"$/,
    ],
    ['a time that is none', { 'connect-timeout-ms': '1s' }, '{}', /^protocol error: invalid Connect-Timeout-Ms$/],
    ['a body that is not packed', { 'content-encoding': 'gzip' }, '{}', /^the body is not gzip$/],
  ] as const) {
    it(`refuse ${what}`, async () => {
      const { status, json: reply } = await api.call('ListVms', body, headers);
      assert.deepEqual([status, reply.code], [400, 'invalid_argument']);
      assert.match(reply.message, message);
    });
  }

  it('refuse packings they do not know', async () => {
    const { status, json: reply } = await api.call('ListVms', '{}', { 'content-encoding': 'br' });
    assert.deepEqual([status, reply.code], [501, 'unimplemented']);
  });

  it('refuse bodies that are too large, packed or not, and go on', async () => {
    const large = `{"page_token":"${'x'.repeat(5_000_000)}"}`;
    for (const [body, headers] of [
      [Buffer.from(large), {}],
      [gzipSync(large), { 'content-encoding': 'gzip' }],
    ] as const) {
      const response = await post(`${service}/ListVms`, { ...json, ...headers }, body);
      assert.equal(response.status, 429);
      assert.equal(((await response.json()) as { code: string }).code, 'resource_exhausted');
    }
    assert.equal((await api.call('ListVms', {})).status, 200);
  });

  it('are refused without a token before anything of them is read', async () => {
    const { status, json: reply } = await api.call('ListVms', '{', { authorization: '' });
    assert.deepEqual([status, reply.code], [401, 'unauthenticated']);
  });

  it('are given up when their time is over, and what they began goes on', async () => {
    const { json: created } = await api.call('CreateVm', { config: smallConfig });
    const held = Promise.withResolvers<void>();
    api.host.waiting.set('start', held.promise);
    const late = await api.call('BootVm', { vm_id: created.vm_id }, { 'connect-timeout-ms': '50' });
    assert.deepEqual([late.status, late.json.code], [504, 'deadline_exceeded']);
    api.host.waiting.clear();
    held.resolve();
    assert.equal((await api.call('DeleteVm', { vm_id: created.vm_id, force: true })).status, 200);
  });

  it('are taken and answered packed', async () => {
    const config = { ...smallConfig, metadata: { name: 'x'.repeat(2000) } };
    const request = gzipSync(JSON.stringify({ vm_id: 'packed', config }));
    const created = await post(`${service}/CreateVm`, { ...json, 'content-encoding': 'gzip' }, request);
    assert.equal(created.status, 200);
    for (const [accepted, packed] of [
      ['gzip', true],
      ['br;q=1, gzip;q=0.5', true],
      ['identity', false],
      ['gzip;q=0', false],
      ['br, gzip ; q=0.0', false],
      ['br, * ; q=0.1', true],
      [`gzip${' '.repeat(10_000)}x`, false],
    ] as const) {
      const { headers, body } = await http2(`${service}/GetVmInfo`, '{"vm_id":"packed"}', {
        'accept-encoding': accepted,
      });
      assert.equal(headers['content-encoding'] === 'gzip', packed, accepted);
      const text = (packed ? gunzipSync(body) : body).toString();
      assert.equal(JSON.parse(text).config.metadata.name.length, 2000);
    }
    await api.call('DeleteVm', { vm_id: 'packed' });
  });

  it('have the same replies on HTTP/2', async () => {
    const { headers, body } = await http2(`${service}/ListVms`, '{}', {});
    assert.equal(headers[':status'], 200);
    assert.deepEqual(JSON.parse(body.toString()), { vms: [], next_page_token: '', total_count: 0 });
  });
});

/** One call in JSON on a connection of HTTP/2 without TLS. */
async function http2(path: string, body: string, headers: Record<string, string>) {
  const session = connectHttp2(api.url);
  const stream = session.request({ ':method': 'POST', ':path': path, ...json, ...headers });
  stream.end(body);
  const [answer] = await once(stream, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  session.close();
  return { headers: answer as Record<string, unknown>, body: Buffer.concat(chunks) };
}

describe('errors', () => {
  it('have their details as clients decode them and as the reference shows them', async () => {
    await api.call('CreateVm', { vm_id: 'theirs', config: smallConfig }, { authorization: 'Bearer dev_customer_b' });
    const { status, json: error } = await api.call('GetVmInfo', { vm_id: 'theirs' });
    assert.equal(status, 403);
    const [{ value, ...detail }] = error.details;
    assert.deepEqual(
      { ...error, details: [detail] },
      {
        code: 'permission_denied',
        message: 'VM theirs not found or not owned by customer',
        details: [
          {
            type: 'google.rpc.ErrorInfo',
            '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
            reason: 'VM_NOT_OWNED',
            domain: 'metald.unkey.com',
            metadata: { vm_id: 'theirs', customer_id: 'a' },
          },
        ],
      },
    );
    assert.match(value, /^[A-Za-z0-9+/]+$/);
  });

  it('have 412 for a failed precondition, as the reference says', async () => {
    const { status, json: error } = await api.call(
      'ShutdownVm',
      { vm_id: 'theirs' },
      { authorization: 'Bearer dev_customer_b' },
    );
    assert.deepEqual([status, error.code], [412, 'failed_precondition']);
    assert.match(error.message, /\(state=VM_STATE_CREATED\)$/);
  });
});

describe('the port', () => {
  for (const [what, bytes] of [
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00'],
    ['half of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'],
    ['HTTP/2 without its settings', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxxxx'],
    [
      'a host that is none',
      `POST ${service}/ListVms HTTP/1.1\r\nHost: [\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`,
    ],
    ['no host', `POST ${service}/ListVms HTTP/1.0\r\ncontent-type: application/proto\r\ncontent-length: 0\r\n\r\n`],
  ] as const) {
    it(`ends a connection that speaks ${what}, and goes on`, async () => {
      const socket = createConnection(Number(new URL(api.url).port), '127.0.0.1');
      socket.on('error', () => socket.destroy());
      socket.write(bytes, 'latin1');
      socket.resume();
      await once(socket, 'close');
      assert.equal((await api.call('ListVms', {})).status, 200);
    });
  }

  it('understands HTTP/2 that arrives byte by byte', async () => {
    const socket = createConnection(Number(new URL(api.url).port), '127.0.0.1').setNoDelay();
    const settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for (const byte of [...Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), ...settings]) {
      socket.write(Buffer.from([byte]));
      await new Promise(setImmediate);
    }
    const [answer] = (await once(socket, 'data')) as [Buffer];
    assert.equal(answer[3], 4, 'the first frame is SETTINGS');
    socket.destroy();
  });
});
