import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { BerthError, type ErrorCode } from '../../common/errors.ts';
import { createDispatch } from './dispatch.ts';
import { servePrpc } from './http.ts';
import { Empty, emptyMessage, field, message } from './message.ts';
import { rpc } from './service.ts';
import { Sample } from './testing/sample.ts';

const Fail = message('sample.Fail', { code: field(1, 'string') });
const service = { Echo: rpc(Sample, Sample), Nothing: rpc(Empty, Empty), Fail: rpc(Fail, Empty) };

const failures: [string, string][] = [];
const dispatch = createDispatch(
  service,
  {
    Echo: (request) => request,
    Nothing: () => ({}),
    Fail({ code }) {
      if (code === 'secret') throw new Error('the password is 1234');
      throw new BerthError(code as ErrorCode, { reason: 'naïve', name: 'x' });
    },
  },
  { prefixes: ['Sample.', 'Old.'], onError: (method, error) => failures.push([method, error.code]) },
);

const handle: RequestListener = (request, response) => {
  const url = new URL(request.url!, 'http://x');
  const name = decodeURIComponent(url.pathname.slice('/prpc/'.length));
  servePrpc(dispatch, request, response, { name, query: url.search.slice(1) }, undefined).catch(() =>
    response.destroy(),
  );
};
const server = createServer(handle);
let base = '';
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/prpc/`;
});
after(() => server.close());

const json = { 'content-type': 'application/json' };

async function call(path: string, init: RequestInit = {}) {
  const response = await fetch(base + path, init);
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    length: response.headers.get('content-length'),
    text: await response.text(),
  };
}

async function echoed(path: string, init: RequestInit): Promise<unknown> {
  const reply = await call(path, init);
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.type, 'application/json');
  return (JSON.parse(reply.text) as { text: unknown }).text;
}

describe('how a request is written', () => {
  for (const [what, path, init] of [
    ['the content type', 'Echo', { method: 'POST', headers: json, body: '{"text":"a"}' }],
    [
      'a content type with parameters',
      'Echo',
      { method: 'POST', headers: { 'content-type': 'Application/JSON; charset=utf-8' }, body: ' {"text":"a"}' },
    ],
    ['?json', 'Echo?json', { method: 'POST', body: ' {"text":"a"}' }],
    ['?json=true', 'Echo?json=true', { method: 'POST', body: ' {"text":"a"}' }],
    ['?json=1', 'Echo?x&json=1', { method: 'POST', body: ' {"text":"a"}' }],
    [
      'a brace at the beginning',
      'Echo',
      { method: 'POST', headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: '{"text":"a"}' },
    ],
    ['GET', 'Echo?text=a', { method: 'GET' }],
  ] as const)
    test(`${what} says JSON`, async () => assert.equal(await echoed(path, init), 'a'));

  for (const [what, path, headers] of [
    ['nothing', 'Echo', {}],
    ['?json=0', 'Echo?json=0', {}],
    ['a content type that merely begins alike', 'Echo', { 'content-type': 'application/json-seq' }],
    ['Accept', 'Echo', { accept: 'application/json' }],
  ] as const)
    test(`${what} does not`, async () => {
      const reply = await call(path, { method: 'POST', headers, body: Buffer.from('0a0161', 'hex') });
      assert.deepEqual(reply, { status: 200, type: 'application/octet-stream', length: '3', text: '\n\x01a' });
    });

  test('an empty body is the message of defaults, either way', async () => {
    assert.equal(await echoed('Echo', { method: 'POST', headers: json }), '');
    const reply = await call('Echo', { method: 'POST' });
    assert.deepEqual(reply, { status: 200, type: 'application/octet-stream', length: '0', text: '' });
  });

  test('the body of a method without arguments is not looked at', async () => {
    const reply = await call('Nothing', { method: 'POST', headers: json, body: '{{{' });
    assert.deepEqual(reply, { status: 200, type: 'application/json', length: '4', text: 'null' });
    assert.equal((await call('Nothing', { method: 'POST', body: 'zzz' })).length, '0');
    assert.equal((await call('Nothing?x=[')).text, 'null');
  });
});

describe('names', () => {
  for (const name of ['Nothing', 'Sample.Nothing', 'Old.Sample.Old.Nothing', 'Sample%2ENothing'])
    test(name, async () => assert.equal((await call(name)).text, 'null'));

  for (const name of ['nothing', 'Other.Nothing', 'constructor', '__proto__', 'Sample.', ''])
    test(`${name || 'none'} is unknown`, async () => {
      const reply = await call(name);
      assert.equal(reply.status, 404);
      assert.match((JSON.parse(reply.text) as { error: string }).error, /^Service not found: /);
    });
});

describe('failures', () => {
  const body = JSON.stringify({ code: 'invalid_argument' });

  test('in JSON: both keys, laid out, ASCII', async () => {
    const reply = await call('Fail', { method: 'POST', headers: json, body });
    assert.equal(reply.status, 400);
    assert.equal(reply.type, 'application/json');
    assert.equal(reply.text, '{\n  "error": "na\\u00efve",\n  "message": "na\\u00efve"\n}');
    assert.equal(reply.length, String(reply.text.length));
  });

  test('in protobuf: a PrpcError', async () => {
    const code = Buffer.from('invalid_argument');
    const sent = Buffer.concat([Buffer.from([0x0a, code.length]), code]);
    const reply = await call('Fail', { method: 'POST', body: sent });
    assert.equal(reply.status, 400);
    assert.equal(reply.type, 'application/octet-stream');
    assert.equal(reply.text, '\n\x06naïve');
  });

  test('what went wrong inside is for the log only', async () => {
    failures.length = 0;
    const reply = await call('Fail?code=secret');
    assert.equal(reply.status, 500);
    assert.doesNotMatch(reply.text, /1234/);
    assert.deepEqual(failures, [['Fail', 'internal']]);
  });

  test('a body that is not UTF-8 is refused', async () => {
    const body = Buffer.from('{"text":"\xe9"}', 'latin1');
    const reply = await call('Echo', { method: 'POST', headers: json, body });
    assert.equal(reply.status, 400);
    assert.match(reply.text, /not UTF-8/);
  });

  test('a body that cannot be read names the field', async () => {
    const reply = await call('Echo', { method: 'POST', headers: json, body: '{"inner":{"size":-1}}' });
    assert.equal(reply.status, 400);
    assert.match(reply.text, /inner\.size: out of range/);
  });

  test('a body over the limit is refused, and the connection can be used again', async () => {
    const port = Number(new URL(base).port);
    const socket = connect(port, '127.0.0.1');
    const size = 10 * 1024 * 1024 + 1;
    socket.write(`POST /prpc/Echo?json HTTP/1.1\r\nHost: x\r\nContent-Length: ${size}\r\n\r\n`);
    socket.write(Buffer.alloc(size, 0x20));
    socket.end('GET /prpc/Nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    const replies = await text(socket);
    assert.match(replies, /^HTTP\/1.1 413 .*"error": "Body too large".*HTTP\/1.1 200 OK.*null$/s);
  });

  test('a body at the limit is taken', async () => {
    const atLimit = `{"text":"a"${' '.repeat(10 * 1024 * 1024 - 12)}}`;
    assert.equal(await echoed('Echo', { method: 'POST', headers: json, body: atLimit }), 'a');
  });
});

test('every field is in every reply', async () => {
  const reply = await call('Echo', { method: 'POST', headers: json, body: '{}' });
  assert.deepEqual(Object.keys(JSON.parse(reply.text) as object), Object.keys(emptyMessage(Sample)));
});
