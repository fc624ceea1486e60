import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { extract, pack } from 'tar-stream';
import { createTestApi, type TestApi, testKey } from './testing/test-api.ts';

const gzip = { 'content-type': 'application/gzip' };

async function archive(): Promise<Buffer> {
  const packer = pack();
  packer.entry({ name: 'hello.txt' }, 'hello world\n');
  packer.finalize();
  return gzipSync(await buffer(packer));
}

describe('upload', () => {
  test('what was checked is what the guest gets, as its user and below the workspace', async () => {
    await using api = await createTestApi();
    const id = await api.createVm();
    for (const [dest, type] of [
      ['%2Fworkspace%2Fproject', 'application/gzip'],
      ['project', 'application/octet-stream'],
    ] as const) {
      const url = `/v1/vms/${id}/files/upload?dest=${dest}`;
      const answer = await api.call('POST', url, await archive(), { 'content-type': type });
      assert.deepEqual([answer.status, answer.text], [204, '']);
    }
    assert.deepEqual(
      api.vms.fakeGuest.uploads.map(({ dest, options }) => [dest, options]),
      Array(2).fill(['/workspace/project', { uid: 1000, gid: 1000, root: '/workspace' }]),
    );
    const names: string[] = [];
    for await (const entry of Readable.from([api.vms.fakeGuest.uploads[0]!.tar]).pipe(extract())) {
      names.push(entry.header.name);
      entry.resume();
    }
    assert.deepEqual(names, ['hello.txt']);
  });

  test('a space is the workspace itself', async () => {
    await using api = await createTestApi();
    const id = await api.createVm();
    assert.equal((await api.call('POST', `/v1/vms/${id}/files/upload?dest=%20`, await archive(), gzip)).status, 204);
    assert.equal(api.vms.fakeGuest.uploads[0]?.dest, '/workspace');
  });

  test('the limit is inclusive', async () => {
    const bytes = await archive();
    await using exact = await createTestApi({ limits: { maxUploadBytes: bytes.length } });
    await using less = await createTestApi({ limits: { maxUploadBytes: bytes.length - 1 } });
    for (const [api, status] of [
      [exact, 204],
      [less, 413],
    ] as const) {
      const id = await api.createVm();
      assert.equal((await api.call('POST', `/v1/vms/${id}/files/upload?dest=.`, bytes, gzip)).status, status);
    }
    assert.equal(less.vms.fakeGuest.uploads.length, 0);
  });

  test('one far beyond the limit is answered, and not read to its end', async () => {
    const limit = 64 * 1024;
    await using api = await createTestApi({ limits: { maxUploadBytes: limit } });
    const id = await api.createVm();
    await api.app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = api.app.server.address() as AddressInfo;
    const call = request({
      ...{ port, method: 'POST', path: `/v1/vms/${id}/files/upload?dest=.` },
      headers: { ...gzip, 'x-api-key': testKey },
    });
    // The connection is closed while this side still sends.
    call.on('error', () => {});
    const endless = new Readable({
      read() {
        this.push(Buffer.alloc(limit));
      },
    });
    endless.pipe(call);
    // `once` would take the broken sending side for a failure.
    const response = await new Promise<IncomingMessage>((resolve) => call.on('response', resolve));
    assert.equal(response.statusCode, 413);
    assert.equal(await text(response), '{"message":"Body too large"}');
    endless.destroy();
    call.destroy();
  });

  test('nothing of a bad archive reaches the guest', async () => {
    await using api = await createTestApi();
    const id = await api.createVm();
    const packer = pack();
    packer.entry({ name: 'good' }, 'x');
    packer.entry({ name: 'link', type: 'symlink', linkname: '/etc' });
    packer.finalize();
    const bytes = gzipSync(await buffer(packer));
    const { status, json } = await api.call('POST', `/v1/vms/${id}/files/upload?dest=.`, bytes, gzip);
    assert.deepEqual([status, json.message], [400, 'Tar contains disallowed entry type']);
    assert.equal(api.vms.fakeGuest.uploads.length, 0);
  });
});

describe('download', () => {
  test('is the guest’s archive, compressed', async () => {
    await using api = await createTestApi();
    const id = await api.createVm();
    const paths: string[] = [];
    api.vms.fakeGuest.onDownload = async (path) => {
      paths.push(path);
      return Readable.from([Buffer.from('tar '), Buffer.from('stream')]);
    };
    const response = await api.app.inject({
      url: `/v1/vms/${id}/files/download?path=%2Fworkspace%2Fproject%2F`,
      headers: { 'x-api-key': testKey },
    });
    assert.equal(response.headers['content-type'], 'application/gzip');
    assert.equal(gunzipSync(response.rawPayload).toString(), 'tar stream');
    assert.deepEqual(paths, ['/workspace/project']);
  });

  test('a failure halfway breaks the connection', async () => {
    await using api = await createTestApi();
    const id = await api.createVm();
    const begun = Promise.withResolvers<void>();
    api.vms.fakeGuest.onDownload = async () =>
      Readable.from(
        (async function* () {
          yield randomBytes(1_000_000);
          await begun.promise;
          throw new Error('channel lost');
        })(),
      );
    await api.app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = api.app.server.address() as AddressInfo;
    const call = request({
      port,
      path: `/v1/vms/${id}/files/download?path=.`,
      headers: { 'x-api-key': testKey },
    }).end();
    const [response] = await once(call, 'response');
    assert.equal(response.statusCode, 200);
    begun.resolve();
    await assert.rejects(buffer(response), { code: 'ECONNRESET' });
  });
});

describe('connections', () => {
  async function listening(api: TestApi): Promise<() => Promise<Socket>> {
    await api.app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = api.app.server.address() as AddressInfo;
    return async () => {
      const socket = connect(port, '127.0.0.1');
      socket.on('error', () => {});
      await once(socket, 'connect');
      return socket;
    };
  }

  const halfBody = (path: string, type: string) =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: 100\r\n\r\n{`;

  for (const type of ['application/json', 'application/gzip']) {
    test(`a stranger's body of ${type} that does not come is not waited for`, async (t) => {
      await using api = await createTestApi();
      const open = await listening(api);
      t.mock.timers.enable({ apis: ['setTimeout'] });
      const socket = await open();
      const closed = once(socket, 'close');
      const responded = new Promise((resolve) => {
        api.app.server.once('request', (_request, response) => response.once('finish', resolve));
      });
      socket.write(halfBody('/v1/vms', type));
      const [answer] = await once(socket, 'data');
      assert.match(String(answer), /^HTTP\/1\.1 401 /);
      await responded;
      await new Promise(setImmediate);
      t.mock.timers.tick(5000);
      await closed;
    });
  }

  test('a log-in that does not come is not waited for', async (t) => {
    await using api = await createTestApi();
    const open = await listening(api);
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const socket = await open();
    const closed = once(socket, 'close');
    const received = once(api.app.server, 'request');
    socket.write(halfBody('/auth/login', 'application/json'));
    await received;
    t.mock.timers.tick(30_000);
    await closed;
  });

  test('an empty body, and one that nobody reads, are no reason to close', async (t) => {
    await using api = await createTestApi();
    const open = await listening(api);
    const vm = await api.createVm();
    const begun = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    const { snapshot } = api.vms;
    api.vms.snapshot = async (id) => {
      begun.resolve();
      await go.promise;
      return snapshot.call(api.vms, id);
    };
    t.mock.timers.enable({ apis: ['setTimeout'] });
    for (const length of [0, 2]) {
      const socket = await open();
      socket.write(
        `POST /v1/vms/${vm}/snapshots HTTP/1.1\r\nHost: x\r\nX-API-Key: ${testKey}\r\n` +
          `Content-Type: text/plain\r\nContent-Length: ${length}\r\n\r\n${'x'.repeat(length)}`,
      );
      await begun.promise;
      t.mock.timers.tick(60_000);
      go.resolve();
      const [answer] = await once(socket, 'data');
      assert.match(String(answer), /^HTTP\/1\.1 201 /);
      socket.destroy();
    }
  });

  test('beyond those there may be are closed as they come', async () => {
    await using api = await createTestApi({ maxConnections: 1 });
    const open = await listening(api);
    const first = await open();
    first.write('GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n');
    const [answer] = await once(first, 'data');
    assert.match(String(answer), /^HTTP\/1\.1 200 /);
    const second = await open();
    await once(second, 'close');
    first.destroy();
  });
});

describe('what is not quite HTTP', () => {
  const rows: readonly [name: string, bytes: string, status: number, message: string][] = [
    ['garbage', 'garbage\r\n\r\n', 400, 'Bad Request'],
    ['endless headers', `GET / HTTP/1.1\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`, 431, 'Request Header Fields Too Large'],
  ];
  for (const [name, bytes, status, message] of rows) {
    test(name, async () => {
      await using api = await createTestApi();
      await api.app.listen({ host: '127.0.0.1', port: 0 });
      const socket = connect((api.app.server.address() as AddressInfo).port, '127.0.0.1');
      socket.write(bytes);
      const answer = await text(socket);
      assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `));
      assert.equal(answer.split('\r\n\r\n')[1], JSON.stringify({ message }));
    });
  }
});
