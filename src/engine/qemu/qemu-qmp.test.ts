import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { BerthError } from '../../common/errors.ts';
import { QmpClient, QmpClosedError, QmpError } from './qemu-qmp.ts';

const greeting = '{"QMP":{"version":{},"capabilities":[]}}\r\n';

interface Command {
  readonly execute: string;
  readonly id: number;
  readonly arguments: Record<string, unknown>;
}

let dir: string;
let server: Server;
let path: string;
let peers: Socket[];
let answer: (command: Command, peer: Socket) => void;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'berth-qmp-'));
  path = join(dir, 'qmp.sock');
  peers = [];
  answer = ({ id }, peer) => peer.write(`{"return":{},"id":${id}}\r\n`);
  server = createServer((peer) => {
    peers.push(peer);
    peer.write(greeting);
    peer.on('error', () => {});
    peer.on('data', (chunk) => {
      for (const line of chunk.toString().trim().split('\n')) answer(JSON.parse(line) as Command, peer);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
});

afterEach(async () => {
  for (const peer of peers) peer.destroy();
  await new Promise((resolve) => server.close(resolve));
  await rm(dir, { recursive: true });
});

test('negotiates, then answers each command with its own reply, in any order', async () => {
  const held: Command[] = [];
  const commands: string[] = [];
  answer = (command, peer) => {
    commands.push(command.execute);
    if (command.execute === 'qmp_capabilities') peer.write(`{"return":{},"id":${command.id}}\r\n`);
    else held.push(command);
    if (held.length < 2) return;
    for (const { id, execute } of held.reverse()) peer.write(`{"return":"${execute}","id":${id}}\r\n`);
  };
  const qmp = new QmpClient(path);
  await qmp.ready(5000);
  assert.deepEqual(await Promise.all([qmp.execute('one', { a: 1 }), qmp.execute('two')]), ['one', 'two']);
  assert.deepEqual(commands, ['qmp_capabilities', 'one', 'two']);
  qmp.close();
  await qmp.closed;
});

test('a refusal is an error of its own, and the session goes on', async () => {
  const qmp = new QmpClient(path);
  await qmp.ready(5000);
  answer = ({ id, execute }, peer) =>
    peer.write(
      execute === 'bad'
        ? `{"error":{"class":"GenericError","desc":"no"},"id":${id}}\r\n`
        : `{"return":7,"id":${id}}\r\n`,
    );
  await assert.rejects(qmp.execute('bad'), (error) => error instanceof QmpError && error.class === 'GenericError');
  assert.equal(await qmp.execute('good'), 7);
  qmp.close();
});

test('events reach listeners and the latest is remembered after the end', async () => {
  const qmp = new QmpClient(path);
  await qmp.ready(5000);
  const seen: string[] = [];
  const forget = qmp.onEvent(({ event }) => seen.push(event));
  peers[0]?.write('{"event":"STOP"}\r\n{"event":"SHUTDOWN","data":{"reason":"guest-');
  peers[0]?.end('reset"}}\r\n');
  await qmp.closed;
  forget();
  assert.deepEqual(seen, ['STOP', 'SHUTDOWN']);
  assert.deepEqual(qmp.lastEvent('SHUTDOWN')?.data, { reason: 'guest-reset' });
  assert.equal(qmp.lastEvent('RESET'), undefined);
});

test('a command without a reply ends at its deadline; the reply that comes late harms nobody', async () => {
  const qmp = new QmpClient(path);
  await qmp.ready(5000);
  let late: number | undefined;
  answer = ({ id }) => {
    late = id;
  };
  await assert.rejects(qmp.execute('slow', {}, 20), isDeadline);
  answer = ({ id }, peer) => peer.write(`{"return":"late","id":${late}}\r\n{"return":"mine","id":${id}}\r\n`);
  assert.equal(await qmp.execute('quick'), 'mine');
  qmp.close();
});

test('a silent peer is noticed', async () => {
  server.removeAllListeners('connection');
  server.on('connection', (peer) => peers.push(peer));
  const qmp = new QmpClient(path);
  await qmp.connected();
  await assert.rejects(qmp.ready(20), isDeadline);
  qmp.close();
});

test('commands under way fail when the connection breaks, and later ones at once', async () => {
  const qmp = new QmpClient(path);
  await qmp.ready(5000);
  answer = (_, peer) => peer.end();
  await assert.rejects(qmp.execute('last'), QmpClosedError);
  await qmp.closed;
  await assert.rejects(qmp.execute('more'), QmpClosedError);
});

for (const [name, text] of [
  ['text that is no JSON', 'hello\n'],
  ['JSON that is no object', '[]\n'],
  ['an endless line', 'x'.repeat(2 * 1024 * 1024)],
] as const) {
  test(`${name} ends the session`, async () => {
    const qmp = new QmpClient(path);
    await qmp.ready(5000);
    answer = (_, peer) => peer.write(text);
    await assert.rejects(qmp.execute('any'), /malformed QMP message/);
    await qmp.closed;
  });
}

test('nobody listening is told with the code of the system', async () => {
  const qmp = new QmpClient(join(dir, 'none.sock'));
  await assert.rejects(qmp.connected(), { code: 'ENOENT' });
  await qmp.closed;
});

function isDeadline(error: unknown): boolean {
  return error instanceof BerthError && error.code === 'deadline_exceeded';
}
