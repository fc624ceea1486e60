/** The port: TLS, what is agreed on within it, and how many connections there may be. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { runCommand } from '../../common/command.ts';
import { VmService } from './gen/vmprovisioner/v1/vm_pb.js';
import { makeCertificate } from './testing/certificates.ts';
import { openTestApi, type TestApi } from './testing/test-api.ts';

describe('the port with TLS', () => {
  const dir = mkdtempSync(join(tmpdir(), 'berth-tls-'));
  const files = { cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem') };
  const headers = { authorization: 'Bearer dev_customer_a' };
  let api: TestApi;

  const trusted = () => ({ ca: readFileSync(files.cert) });
  /** Whose certificate a new connection is shown, and what it agrees on. */
  const greet = async (ALPNProtocols: string[]) => {
    const { hostname: host, port } = new URL(api.url);
    const socket = connectTls({ host, port: Number(port), ALPNProtocols, rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return [subject.CN, socket.alpnProtocol];
  };

  before(async () => {
    await makeCertificate(files, 'first');
    api = await openTestApi({ certificateFiles: files, certificateCheckMs: 20 });
  });
  after(async () => {
    await api[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });

  it('agrees on HTTP/2 where the client has it, else on HTTP/1.1', async () => {
    assert.deepEqual(await greet(['h2', 'http/1.1']), ['first', 'h2']);
    assert.deepEqual(await greet(['http/1.1']), ['first', 'http/1.1']);
    assert.deepEqual(await greet([]), ['first', false]);
  });

  for (const [name, transport] of [
    [
      'Connect over HTTP/1.1',
      () => createConnectTransport({ baseUrl: api.url, httpVersion: '1.1', nodeOptions: trusted() }),
    ],
    [
      'Connect over HTTP/2',
      () => createConnectTransport({ baseUrl: api.url, httpVersion: '2', nodeOptions: trusted() }),
    ],
    ['gRPC', () => createGrpcTransport({ baseUrl: api.url, nodeOptions: trusted() })],
    [
      'gRPC-Web over HTTP/1.1',
      () => createGrpcWebTransport({ baseUrl: api.url, httpVersion: '1.1', nodeOptions: trusted() }),
    ],
  ] as const) {
    it(`serves ${name}`, async () => {
      const client = createClient(VmService, transport());
      assert.equal((await client.listVms({}, { headers })).totalCount, 0);
    });
  }

  it('serves JSON to clients that agree on nothing, of either version', async () => {
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    httpsRequest(`${api.url}/v1/vms`, { headers, ...trusted() }, ({ statusCode }) => resolve(statusCode)).end();
    assert.equal(await promise, 200);
    const session = connectHttp2(api.url, trusted());
    const stream = session.request({ ':path': '/health' });
    const [answer] = await once(stream, 'response');
    assert.equal(answer[':status'], 200);
    session.destroy();
  });

  it('says nothing to clients without TLS', async () => {
    const socket = createConnection(Number(new URL(api.url).port), '127.0.0.1');
    socket.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n');
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    socket.on('error', () => {});
    await once(socket, 'close');
    assert.doesNotMatch(Buffer.concat(received).toString('latin1'), /HTTP/);
  });

  it('shows the certificate that is in the files by then', async () => {
    await makeCertificate(files, 'second');
    while ((await greet(['h2']))[0] === 'first') await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(await greet(['h2']), ['second', 'h2']);
  });

  it('is not opened with a key of another certificate', async () => {
    const key = join(dir, 'other.pem');
    await runCommand('openssl', [
      'genpkey',
      '-algorithm',
      'EC',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-out',
      key,
    ]);
    await assert.rejects(openTestApi({ certificateFiles: { ...files, key } }), /key values mismatch/);
  });
});

describe('the port', () => {
  it('closes connections beyond those it may have, and takes others when some have ended', async () => {
    await using api = await openTestApi({ maxConnections: 2 });
    const open = async (): Promise<Socket> => {
      const socket = createConnection(Number(new URL(api.url).port), '127.0.0.1');
      socket.on('error', () => {});
      await once(socket, 'connect');
      return socket;
    };
    /** True when the connection is served, false when it was closed. */
    const isServed = async (socket: Socket): Promise<boolean> => {
      socket.write('GET /health HTTP/1.1\r\nHost: x\r\n\r\n');
      const closed = once(socket, 'close').then(() => false);
      return Promise.race([once(socket, 'data').then(() => true), closed]);
    };
    const first = await open();
    const second = await open();
    assert.deepEqual([await isServed(first), await isServed(second)], [true, true]);
    assert.equal(await isServed(await open()), false);
    first.destroy();
    let served = false;
    while (!served) served = await isServed(await open());
    second.destroy();
  });
});
