import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectHttp2, constants } from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import { afterEach, describe, it } from 'node:test';
import { createDualServer, type DualServer, type DualServerOptions, type WireHandler } from './server.ts';

const get = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n';

describe('connections whose replies are not read', () => {
  let dual: DualServer;
  afterEach(async () => {
    dual.closeAllConnections();
    await dual.close();
  });

  async function listen(handler: WireHandler, limits: DualServerOptions = {}): Promise<number> {
    dual = createDualServer(handler, limits);
    dual.server.listen(0, '127.0.0.1');
    await once(dual.server, 'listening');
    return (dual.server.address() as AddressInfo).port;
  }

  it('have at most 32 requests of HTTP/1.1 at a time', async () => {
    let served = 0;
    const port = await listen(() => served++);
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    socket.write(get.repeat(33));
    await once(socket.resume(), 'close');
    assert.equal(served, 32);
  });

  it('may have any number of requests one after another', async () => {
    const port = await listen((_, response) => response.end('x'));
    const socket = connect(port, '127.0.0.1');
    for (let n = 0; n < 40; n++) {
      socket.write(get);
      await once(socket, 'data');
    }
    socket.destroy();
  });

  it('have at most 32 streams of HTTP/2 at a time', async () => {
    const port = await listen((_, response) => response.end('x'));
    const client = connectHttp2(`http://127.0.0.1:${port}`);
    const [settings] = await once(client, 'remoteSettings');
    assert.equal(settings.maxConcurrentStreams, 32);
    client.destroy();
  });

  it('are cut when HTTP/1.1 does not take a reply, and not while an answer takes its time', async () => {
    const slow = Promise.withResolvers<void>();
    let cut = 0;
    const port = await listen(
      (request, response) => {
        request.socket.once('close', () => cut++);
        if (request.url === '/large') response.end(Buffer.alloc(64 * 1024 * 1024));
        else slow.promise.then(() => response.end('x'));
      },
      { drainTimeoutMs: 100 },
    );
    const patient = connect(port, '127.0.0.1');
    patient.write(get + get);
    const stuck = connect(port, '127.0.0.1').on('error', () => {});
    stuck.write(get.replace('/', '/large'));
    while (cut === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    slow.resolve();
    await once(patient, 'data');
    patient.destroy();
    stuck.destroy();
  });

  it('are cut when HTTP/2 does not take a reply', async () => {
    const port = await listen((_, response) => response.end(Buffer.alloc(64 * 1024 * 1024)), { drainTimeoutMs: 100 });
    const client = connectHttp2(`http://127.0.0.1:${port}`).on('error', () => {});
    client.request({ ':path': '/' }).on('error', () => {});
    await once(client, 'close');
  });

  it('have their streams ended whose request does not end, while others on them go on', async () => {
    const slow = Promise.withResolvers<void>();
    const port = await listen(
      (request, response) => {
        request.resume().on('end', () => slow.promise.then(() => response.end('x')));
      },
      { requestTimeoutMs: 100 },
    );
    const client = connectHttp2(`http://127.0.0.1:${port}`);
    const whole = client.request({ ':method': 'POST', ':path': '/' }).end('all of it');
    const answered = once(whole, 'response');
    const half = client.request({ ':method': 'POST', ':path': '/' }, { endStream: false });
    half.write('half of it');
    await once(half.resume(), 'close');
    assert.equal(half.rstCode, constants.NGHTTP2_CANCEL);
    slow.resolve();
    const [answer] = await answered;
    assert.equal(answer[':status'], 200);
    client.destroy();
  });
});
