/** What a client may send that no honest one would: each is answered as its own mistake, and the next call is served. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect as connectHttp2, constants } from 'node:http2';
import { json } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { create, toBinary } from '@bufbuild/protobuf';
import { maxElements } from './elements.ts';
import { ListVmsRequestSchema } from './gen/vmprovisioner/v1/vm_pb.js';
import { openTestApi, smallConfig, type TestApi } from './testing/test-api.ts';

const service = '/vmprovisioner.v1.VmService';
const authorization = 'Bearer dev_customer_a';

let api: TestApi;
before(async () => {
  api = await openTestApi();
});
after(() => api[Symbol.asyncDispose]());

/** A message in the frame of gRPC. */
function framed(message: Uint8Array, flags = 0): Buffer {
  const head = Buffer.from([flags, 0, 0, 0, 0]);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Sends ListVms a body and returns the code of what it is told, by name: `ok`, or one of Connect's or gRPC's. */
async function codeOf(type: string, body: Uint8Array, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(`${api.url}${service}/ListVms`, {
    method: 'POST',
    headers: { authorization, 'content-type': type, ...headers },
    body: body as Uint8Array<ArrayBuffer>,
  });
  const text = Buffer.from(await response.arrayBuffer()).toString('latin1');
  if (!type.startsWith('application/grpc')) return response.ok ? 'ok' : JSON.parse(text).code;
  const status = response.headers.get('grpc-status') ?? /grpc-status: (\d+)/.exec(text)?.[1] ?? '';
  return (
    { 0: 'ok', 3: 'invalid_argument', 8: 'resource_exhausted', 12: 'unimplemented' }[status] ?? `grpc-status ${status}`
  );
}

const groups = (depth: number) => Buffer.concat([Buffer.alloc(depth, 0x7b), Buffer.alloc(depth, 0x7c)]);

describe('a binary message', () => {
  for (const [what, message] of [
    ['a number without an end', Buffer.alloc(1000, 0xff)],
    ['a length beyond the message', Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x41])],
    ['a field of number 0', Buffer.alloc(3)],
    ['a type there is not', Buffer.from([0x0f])],
    ['a text that is not UTF-8', Buffer.from([0x1a, 2, 0xff, 0xfe])],
    ['groups within groups', groups(50_000)],
    ['groups that do not end', Buffer.alloc(100_000, 0x7b)],
  ] as const) {
    it(`with ${what} is invalid`, async () => {
      const packed = gzipSync(message);
      const codes = [
        await codeOf('application/proto', message),
        await codeOf('application/proto', packed, { 'content-encoding': 'gzip' }),
        await codeOf('application/grpc-web+proto', framed(message)),
        await codeOf('application/grpc-web', framed(packed, 1), { 'grpc-encoding': 'gzip' }),
      ];
      assert.deepEqual(codes, Array(4).fill('invalid_argument'));
    });
  }

  it('of an honest client is taken in each of these forms, with fields that are not known', async () => {
    const message = Buffer.concat([
      toBinary(ListVmsRequestSchema, create(ListVmsRequestSchema, { pageSize: 1 })),
      groups(3),
    ]);
    const packed = gzipSync(message);
    assert.equal(await codeOf('application/proto', message), 'ok');
    assert.equal(await codeOf('application/proto', packed, { 'content-encoding': 'gzip' }), 'ok');
    assert.equal(await codeOf('application/grpc-web+proto', framed(message)), 'ok');
    assert.equal(await codeOf('application/grpc-web', framed(packed, 1), { 'grpc-encoding': 'gzip' }), 'ok');
  });
});

describe('a message', () => {
  const most = 256 * 1024;
  const spaces = (size: number) => Buffer.from(`{}${' '.repeat(size - 2)}`);
  /** One field that is not known. */
  const field = (size: number) => {
    const length = size - 5;
    const head = [0xa2, 0x06, 0x80 | (length & 0x7f), 0x80 | ((length >> 7) & 0x7f), length >> 14];
    return Buffer.concat([Buffer.from(head), Buffer.alloc(length)]);
  };
  for (const [type, message] of [
    ['application/json', spaces],
    ['application/proto', field],
    ['application/grpc-web+proto', (size: number) => framed(field(size))],
    ['application/grpc-web+json', (size: number) => framed(spaces(size))],
  ] as const)
    it(`of 256 KiB is taken, and none that is larger: ${type}`, async () => {
      assert.equal(await codeOf(type, message(most)), 'ok');
      assert.equal(await codeOf(type, message(most + 1)), 'resource_exhausted');
    });

  for (const [type, message] of [
    ['application/json', spaces(300_000)],
    ['application/proto', field(300_000)],
  ] as const)
    for (const ends of [true, false])
      it(`that does not say how large it is, and ${ends ? 'ends' : 'does not end'}, is refused: ${type}`, async () => {
        const headers = { authorization, 'content-type': type, 'transfer-encoding': 'chunked' };
        const sender = request(`${api.url}${service}/ListVms`, { method: 'POST', headers });
        sender.on('error', () => {}).write(message);
        if (ends) sender.end();
        const [response] = (await once(sender, 'response')) as [IncomingMessage];
        assert.equal(((await json(response)) as { code?: string }).code, 'resource_exhausted');
        sender.destroy();
      });
});

describe('a message that is larger than it looks', () => {
  const bomb = gzipSync(Buffer.alloc(100_000_000));
  for (const [type, body, headers] of [
    ['application/json', bomb, { 'content-encoding': 'gzip' }],
    ['application/proto', bomb, { 'content-encoding': 'gzip' }],
    ['application/grpc-web+proto', framed(bomb, 1), { 'grpc-encoding': 'gzip' }],
    ['application/grpc-web+json', framed(bomb, 1), { 'grpc-encoding': 'gzip' }],
    ['application/grpc-web+proto', Buffer.from([0, 0xff, 0xff, 0xff, 0xff, 1]), {}],
  ] as const)
    it(`is refused: ${type}, ${body.length} bytes`, async () => {
      assert.equal(await codeOf(type, body, headers), 'resource_exhausted');
    });
});

describe('a message of more elements than any honest one', () => {
  const unknownFields = (count: number) => Buffer.alloc(2 * count, Buffer.from([0x78, 0]));
  const packedStates = (count: number) => {
    const numbers = Buffer.alloc(count, 1);
    return toBinary(ListVmsRequestSchema, create(ListVmsRequestSchema, { stateFilter: [...numbers] }));
  };
  const json = (count: number) => Buffer.from(`{"x":[${Array(count - 1).fill(0)}]}`);
  const forms = [
    ['application/proto', unknownFields],
    ['application/proto', packedStates],
    ['application/json', json],
  ] as const;

  for (const [type, message] of forms)
    it(`is refused, by itself, packed and framed: ${type}, ${message.name}`, async () => {
      const framedType = type.replace('/', '/grpc-web+');
      const codes = async (count: number) => {
        const body = message(count);
        const packed = gzipSync(body);
        return [
          await codeOf(type, body),
          await codeOf(type, packed, { 'content-encoding': 'gzip' }),
          await codeOf(framedType, framed(body)),
          await codeOf(framedType, framed(packed, 1), { 'grpc-encoding': 'gzip' }),
        ];
      };
      assert.deepEqual(await codes(maxElements - 1), Array(4).fill('ok'));
      assert.deepEqual(await codes(maxElements + 1), Array(4).fill('invalid_argument'));
    });

  it('is not read behind another one', async () => {
    // Had it been, it would be what is wrong.
    const body = Buffer.concat([framed(Buffer.alloc(0)), framed(Buffer.alloc(100, 0xff))]);
    assert.equal(await codeOf('application/grpc-web+proto', body), 'unimplemented');
  });
});

describe('JSON', () => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
  for (const [what, text, code] of [
    ['nested where nothing is known', `{"x":${nested(4000)}}`, 'ok'],
    ['nested deeper than any honest one', `{"x":${nested(100_000)}}`, 'invalid_argument'],
    ['nested in a list of names', `{"state_filter":[${nested(4000)}]}`, 'invalid_argument'],
    ['nested in a text', `{"page_token":${nested(4000)}}`, 'invalid_argument'],
    ['with names of objects', '{"__proto__":{"page_size":-1},"constructor":{}}', 'ok'],
    ['with a number beyond numbers', '{"page_size":1e400}', 'invalid_argument'],
  ] as const)
    it(`${what}: ${code}`, async () => {
      assert.equal(await codeOf('application/json', Buffer.from(text)), code);
    });
});

describe('page tokens that were made up', () => {
  const token = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64');
  for (const [pageToken, status] of [
    [token({ offset: Number.MAX_SAFE_INTEGER }), 200],
    [token({ offset: 0, at: '\uffff', id: '\uffff' }), 200],
    [token({ offset: 0, at: '', id: '' }), 200],
    [token({ offset: 2 ** 60 }), 400],
    [token({ offset: -1 }), 400],
    [token({ offset: 0, at: {}, id: [] }), 400],
    [token([]), 400],
    ['====', 400],
    [token({ offset: 0, at: 'x'.repeat(500), id: '' }), 400],
  ] as const)
    it(`show nobody else's VMs: ${pageToken.slice(0, 40)} is ${status}`, async () => {
      await using other = await openTestApi();
      await other.call('CreateVm', { config: smallConfig }, { authorization: 'Bearer dev_customer_b' });
      const { status: actual, json } = await other.call('ListVms', { page_token: pageToken });
      assert.deepEqual([actual, json.vms ?? []], [status, []]);
    });
});

describe('the same call fifty times at once', () => {
  it('does what it asks once', async () => {
    await using busy = await openTestApi();
    const fifty = async (name: string, body: object) => {
      const replies = await Promise.all(Array.from({ length: 50 }, () => busy.call(name, body)));
      return replies.map(({ json }) => json.code ?? 'ok').sort();
    };
    const oneDone = (code: string) => [...Array(49).fill(code), 'ok'].sort();
    assert.deepEqual(await fifty('CreateVm', { vm_id: 'v', config: smallConfig }), oneDone('already_exists'));
    assert.deepEqual(await fifty('BootVm', { vm_id: 'v' }), oneDone('failed_precondition'));
    assert.deepEqual(await fifty('ShutdownVm', { vm_id: 'v' }), oneDone('failed_precondition'));
    assert.deepEqual(await fifty('DeleteVm', { vm_id: 'v' }), oneDone('not_found'));
  });
});

describe('a connection of HTTP/2', () => {
  it('that asks for ten thousand streams and takes them back is served or ended, and others are served', async () => {
    const session = connectHttp2(api.url).on('error', () => {});
    for (let count = 0; count < 10_000 && !session.destroyed; count++) {
      const stream = session.request({ ':method': 'POST', ':path': `${service}/ListVms`, authorization });
      stream.on('error', () => {}).close();
      if (count % 100 === 0) await new Promise(setImmediate);
    }
    assert.equal((await api.call('ListVms', {})).status, 200);
    session.destroy();
  });

  for (const type of ['application/json', 'application/proto', 'application/grpc+proto', 'application/grpc+json'])
    it(`that takes back half a request is forgotten, and others are served: ${type}`, async () => {
      const session = connectHttp2(api.url).on('error', () => {});
      const path = `${service}/ListVms`;
      const headers = { ':method': 'POST', ':path': path, authorization, 'content-type': type };
      for (const half of [[0], [0, 0, 0, 0, 9]]) {
        const stream = session.request(headers).on('error', () => {});
        stream.write(Buffer.from(half));
        // Its arrival is seen by the reply to what is sent behind it.
        await once(session.request({ ':path': '/health' }).resume(), 'close');
        stream.close(constants.NGHTTP2_CANCEL);
      }
      session
        .request(headers)
        .on('error', () => {})
        .write('x');
      await once(session.request({ ':path': '/health' }).resume(), 'close');
      session.destroy();
      assert.equal((await api.call('ListVms', {})).status, 200);
    });

  it('with a thousand headers is refused, and others are served', async () => {
    const session = connectHttp2(api.url).on('error', () => {});
    const headers = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`x-${index}`, 'x']));
    const stream = session.request({ ':path': '/health', ...headers }).on('error', () => {});
    const { promise: status, resolve } = Promise.withResolvers<unknown>();
    stream.on('response', (headers) => resolve(headers[':status'])).on('close', () => resolve('closed'));
    assert.notEqual(await status, 200);
    assert.equal((await api.call('ListVms', {})).status, 200);
    session.destroy();
  });
});
