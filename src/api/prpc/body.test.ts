import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError } from '../../common/errors.ts';
import { readBody } from './body.ts';
import { maxBodyBytes, maxHeldBytes, smallBodyBytes } from './limits.ts';

const MiB = 1024 * 1024;

describe('what is held of bodies that arrive', () => {
  const server = createServer((request, response) => {
    readBody(request, maxBodyBytes).then(
      (body) => response.end(String(body.length)),
      (error: unknown) => {
        if (error instanceof BerthError) response.writeHead(error.http).end(error.message);
        else response.destroy();
      },
    );
  });
  /** The server's ends of connections, by the client's port. */
  const accepted = new Map<number, Socket>();
  server.on('connection', (socket) => accepted.set(socket.remotePort!, socket));
  let port = 0;
  const senders = new Set<Socket>();

  before(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterEach(() => Promise.all([...senders].map(leave)));
  after(() => {
    server.close();
    server.closeAllConnections();
  });

  /** Sends on, and returns when all of it is read. */
  async function send(socket: Socket, data: string | Buffer): Promise<void> {
    socket.write(data);
    while (accepted.get(socket.localPort!)?.bytesRead !== socket.bytesWritten) await sleep(1);
  }

  /** A sender of a body that does not end, of which this many bytes count. */
  async function hold(bytes: number): Promise<Socket> {
    const socket = connect(port, '127.0.0.1');
    senders.add(socket);
    await once(socket, 'connect');
    socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${maxBodyBytes}\r\n\r\n`);
    await send(socket, Buffer.alloc(smallBodyBytes + bytes));
    return socket;
  }

  /** Breaks off, and returns when that is known. */
  async function leave(socket: Socket): Promise<void> {
    senders.delete(socket);
    const end = accepted.get(socket.localPort!)!;
    const closed = new Promise((resolve) => end.once('close', resolve));
    socket.destroy();
    await closed;
  }

  /** Senders that together hold so many bytes. */
  async function fill(bytes: number): Promise<void> {
    const most = maxBodyBytes - smallBodyBytes - 1;
    for (let left = bytes; left > 0; left -= most) await hold(Math.min(left, most));
  }

  /** What a whole body is told of which so many bytes count. */
  async function statusOf(bytes: number): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${port}`, {
      method: 'POST',
      body: Buffer.alloc(smallBodyBytes + bytes),
    });
    await response.text();
    return response.status;
  }

  test('is as much as there may be, beyond which small bodies are taken and no others', async () => {
    await fill(maxHeldBytes - 1);
    assert.equal(await statusOf(1), 200);
    await fill(1);
    assert.equal(await statusOf(1), 429);
    assert.equal(await statusOf(0), 200);
  });

  test('is given back by one that is refused, while its sender stays and sends on', async () => {
    await fill(maxHeldBytes - 3 * MiB);
    const other = await hold(2 * MiB);
    const refused = await hold(MiB);
    const [reply] = await Promise.all([once(refused, 'data'), send(refused, 'x')]);
    assert.match(String(reply), /^HTTP\/1\.1 429 .*request memory quota exceeded/s);
    assert.equal(await statusOf(MiB), 200);

    await leave(other);
    assert.equal(await statusOf(3 * MiB), 200);
    await send(refused, 'x');
    assert.equal(await statusOf(3 * MiB), 200);
  });
});
