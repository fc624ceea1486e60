import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { eventually } from '../../test/support/eventually.ts';
import { createHttpServer } from './http-server.ts';
import { listenUnix } from './sockets.ts';
import { startTestAgent, type TestDevAgent } from './testing/dev-agent.ts';
import { unixFetch } from './testing/unix-fetch.ts';

/** What programs beside the app, and anybody at the public port, can try. */
let agent: TestDevAgent;
const sockets: Socket[] = [];
beforeEach(async () => {
  agent = await startTestAgent();
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await agent[Symbol.asyncDispose]();
});

async function dial(target: string | number = agent.dstackSocket): Promise<Socket> {
  const socket = typeof target === 'number' ? connect(target, '127.0.0.1') : connect(target);
  sockets.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

async function answers(): Promise<void> {
  assert.equal((await unixFetch(agent.dstackSocket, '/GetKey', { path: 'a' })).status, 200);
}

function post(path: string, body: string): string {
  return `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

test('requests that are sent all at once are answered in order', async () => {
  const socket = await dial();
  const count = 300;
  const paths = Array.from({ length: count }, (_, n) => `/Sign`.concat(n % 2 === 0 ? '' : 'x'));
  socket.end(paths.map((path) => post(path, '{"algorithm":"ed25519","data":"00"}')).join(''));
  const statuses = [...(await text(socket)).matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);
  assert.deepEqual(
    statuses,
    paths.map((path) => (path === '/Sign' ? '200' : '404')),
  );
});

test('a client that closes its half still gets its reply, and the end of the connection', async () => {
  const socket = await dial();
  socket.end(post('/GetTlsKey', '{"subject":"a"}'));
  assert.match(await text(socket), /^HTTP\/1\.1 200 .*-----BEGIN PRIVATE KEY-----/s);
});

test('a client that leaves in the middle of its request is forgotten', async () => {
  for (let n = 0; n < 50; n++) {
    const socket = await dial();
    socket.write(`${post('/GetKey', '{"path":"a"}').slice(0, -3)}`);
    socket.destroy();
  }
  await answers();
  assert.deepEqual(agent.errors, []);
});

describe('bodies', () => {
  for (const [what, body, status] of [
    ['deep JSON', '['.repeat(1_000_000), 400],
    ['deep JSON in a field', `{"path":${'['.repeat(500_000)}`, 400],
    ['a number for a text', '{"path":1}', 400],
    ['more than a method takes', `{"path":"${'a'.repeat(10 * 1024 * 1024)}"}`, 413],
  ] as const)
    test(`${what} is refused`, async () => {
      const socket = await dial();
      socket.end(post('/GetKey', body));
      assert.match(await text(socket), new RegExp(`^HTTP/1\\.1 ${status} .*"error": `, 's'));
      await answers();
    });

  test('a path with a zero byte is a path like any other', async () => {
    const [one, two] = await Promise.all(
      ['a\u0000b', 'a\u0000c'].map((path) => unixFetch(agent.dstackSocket, '/GetKey', { path })),
    );
    assert.notEqual(one!.json().key, two!.json().key);
  });

  test('the public port takes none that are large', async () => {
    const reply = await fetch(`${agent.httpUrl}/prpc/Worker.Version?json`, {
      method: 'POST',
      body: 'a'.repeat(70_000),
    });
    assert.equal(reply.status, 413);
  });
});

describe('connections', () => {
  test('more than a listener holds are closed, and it goes on when they are gone', async () => {
    const before = await openFiles();
    let closed = 0;
    for (let n = 0; n < 1100; n++) (await dial()).on('close', () => closed++).resume();
    await eventually('those beyond the bound are closed', async () => closed >= 1100 - 1024);
    for (const socket of sockets.splice(0)) socket.destroy();
    await eventually('it answers again', async () => {
      const reply = await unixFetch(agent.dstackSocket, '/Version').catch(() => null);
      return reply?.status === 200;
    });
    await eventually('their files are closed', async () => (await openFiles()) <= before);
  });

  test('one on which nothing moves is ended, also when a reply waits to be read', async () => {
    const large = 'a'.repeat(8 * 1024 * 1024);
    let asked = false;
    const server = createHttpServer(
      [
        async ({ response }) => {
          asked = true;
          response.end(large);
          return true;
        },
      ],
      { debug: () => {}, info: () => {}, error: () => {} },
      { idleMs: 200 },
    );
    const path = join(agent.directory, 'idle.sock');
    await listenUnix(server, path, 0o600);
    try {
      const socket = await dial(path);
      socket.pause();
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      await eventually('it is asked', async () => asked);
      await eventually('the connection is ended', async () => (await connections(server)) === 0);
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });
});

describe('logs', () => {
  let engine: Server;
  let asked: string[];
  let publicPort: number;
  beforeEach(async () => {
    asked = [];
    const docker = join(agent.directory, 'docker.sock');
    engine = createServer(followedForever(asked));
    await listenUnix(engine, docker, 0o600);
    agent = await agent.restart({ dockerSocket: docker });
    publicPort = Number(new URL(agent.httpUrl).port);
  });
  afterEach(() => {
    engine.close();
    engine.closeAllConnections();
  });

  const ask = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;

  for (const name of [
    '..%2f..%2finfo',
    'web%2fjson',
    'web%3fall=1',
    'web%00',
    'web%0d%0aHost:%20y',
    '-web',
    'a'.repeat(300),
  ])
    test(`of ${name.slice(0, 40)} are not asked for`, async () => {
      const socket = await dial(publicPort);
      socket.write(ask(`/logs/${name}?text&bare`));
      assert.match(await text(socket), /^HTTP\/1\.1 404 /);
      assert.deepEqual(asked, []);
    });

  test('that nobody reads are held back, bounded in number, and given up when the reader goes', async () => {
    const readers: Socket[] = [];
    for (let n = 0; n < 32; n++) {
      const socket = await dial(publicPort);
      socket.pause();
      socket.write(ask('/logs/web?text&bare&follow'));
      readers.push(socket);
    }
    await eventually('all are read', async () => asked.filter((path) => path.includes('/logs?')).length === 32);
    const refused = await fetch(`${agent.httpUrl}/logs/web?text&bare`);
    assert.equal(refused.status, 429);
    await refused.text();
    for (const socket of readers) socket.destroy();
    // What the engine still wanted to say is not read any more.
    await eventually('the engine is left', async () => (await connections(engine)) === 0);
    const socket = await dial(publicPort);
    socket.write(ask('/logs/web?text&bare&follow'));
    await once(socket, 'data');
  });
});

describe("pages in the developer's browser", () => {
  const ask = async (head: string) => {
    const socket = await dial(Number(new URL(agent.httpUrl).port));
    socket.write(`${head}\r\nConnection: close\r\n\r\n`);
    return (await text(socket)).split('\r\n')[0];
  };

  for (const [what, headers] of [
    ['of another site', 'Host: 127.0.0.1:8090\r\nOrigin: https://example.com'],
    ['with a picture from here', 'Host: 127.0.0.1:8090\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors'],
    ['of another port of this machine', 'Host: localhost:8090\r\nSec-Fetch-Site: same-site'],
    ['that name every address', 'Host: 0.0.0.0:8090'],
    ['that name every address of IPv6', 'Host: [::]:8090'],
    ['that name this machine in a way browsers do not know', 'Host: [::ffff:7f00:1]:8090'],
    ['of a site that points its name here', 'Host: rebound.example:8090'],
    ['that come without a name', 'Host:'],
  ] as const)
    test(`${what} do not reach the keys`, async () => {
      assert.equal(await ask(`GET /GetKey?path=a HTTP/1.1\r\n${headers}`), 'HTTP/1.1 403 Forbidden');
    });

  for (const host of ['localhost', '127.0.0.1:8090', '[::1]:8090', 'host.docker.internal:8090'])
    test(`programs that name ${host} do`, async () => {
      assert.equal(await ask(`GET /GetKey?path=a HTTP/1.1\r\nHost: ${host}`), 'HTTP/1.1 200 OK');
    });

  for (const site of ['none', 'same-origin'])
    test(`what the developer types there does: ${site}`, async () => {
      const headers = `Host: localhost:8090\r\nSec-Fetch-Site: ${site}`;
      assert.equal(await ask(`GET /GetKey?path=a HTTP/1.1\r\n${headers}`), 'HTTP/1.1 200 OK');
    });
});

describe('the dashboard', () => {
  test('asks the container engine once at a time, however many look at it', async () => {
    let asking = 0;
    let atOnce = 0;
    const docker = join(agent.directory, 'docker.sock');
    const engine = createServer((_request, response) => {
      atOnce = Math.max(atOnce, ++asking);
      setTimeout(() => {
        asking--;
        response.end('[]');
      }, 20);
    });
    await listenUnix(engine, docker, 0o600);
    try {
      agent = await agent.restart({ dockerSocket: docker });
      const replies = await Promise.all(Array.from({ length: 50 }, () => fetch(agent.httpUrl)));
      for (const reply of replies) assert.equal(reply.status, 200);
      assert.equal(atOnce, 1);
    } finally {
      engine.close();
      engine.closeAllConnections();
    }
  });
});

/** An engine with one container, which never stops talking. */
function followedForever(asked: string[]): RequestListener {
  const line = Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 0, 0x40, 0]), Buffer.alloc(0x4000, 'a')]);
  return (request, response) => {
    asked.push(request.url!);
    if (!request.url!.includes('/logs?')) {
      response.end('{"Config":{"Tty":false}}');
      return;
    }
    const talk = () => {
      while (!response.destroyed && response.write(line));
    };
    response.on('drain', talk);
    talk();
  };
}

function connections(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
  });
}

async function openFiles(): Promise<number> {
  return (await readdir('/proc/self/fd')).length;
}
