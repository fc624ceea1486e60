import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { createGuestClient } from './client.ts';
import type { GuestClient, GuestExec, GuestExecRequest } from './guest.ts';
import { MAGIC, makeNonce, marker } from './resync.ts';
import { LocalGuest, withLocalGuest } from './testing/local-guest.ts';

const request = { cwd: '/', env: { PATH: '/usr/bin:/bin' }, uid: 0, gid: 0, timeoutMs: 20_000 } as const;

let guest: LocalGuest;
let client: GuestClient;
let root: string;

withLocalGuest((atHand) => {
  ({ guest, client, root } = atHand);
});

async function finish(exec: GuestExec) {
  const [stdout, stderr, exit] = await Promise.all([text(exec.stdout), text(exec.stderr), exec.exit]);
  return { stdout, stderr, ...exit };
}

function shell(script: string, options: Partial<GuestExecRequest> = {}): GuestExec {
  return client.exec({ ...request, argv: ['/bin/sh', '-c', script], ...options });
}

test('hello tells protocol, boot and kernel', async () => {
  const hello = await client.ready(5000);
  assert.equal(hello.protocol, 1);
  assert.match(hello.bootId, /^[0-9a-f-]{36}$/);
  assert.match(hello.kernel, /^\d+\./);
});

describe('exec', () => {
  test('keeps the streams apart and reports the status', async () => {
    const result = await finish(shell('echo out; echo err >&2; exit 7'));
    assert.equal(result.stdout, 'out\n');
    assert.equal(result.stderr, 'err\n');
    assert.deepEqual([result.exitCode, result.signal, result.timedOut], [7, null, false]);
    assert.ok(result.durationMicros > 0);
  });

  test('refuses more commands than the guest runs at a time, and leaves room for short requests', async () => {
    const running = Array.from({ length: 112 }, () => shell('exec sleep 60'));
    await client.ready(5000);
    await assert.rejects(
      shell('true').exit,
      (error) => error instanceof BerthError && error.code === 'guest_busy' && error.http === 429,
    );
    await client.sync();
    for (const exec of running) exec.kill();
    const signals = await Promise.all(running.map(async ({ exit }) => (await exit).signal));
    assert.deepEqual(new Set(signals), new Set([9]));
    assert.equal((await finish(shell('exit 3'))).exitCode, 3);
  });

  test('reports the signal that ended the program', async () => {
    const { exitCode, signal, timedOut } = await finish(shell('kill -TERM $$'));
    assert.deepEqual([exitCode, signal, timedOut], [null, 15, false]);
  });

  test('runs as the user, without groups, in the directory, with exactly the environment', async () => {
    const result = await finish(
      client.exec({
        ...request,
        argv: ['/bin/sh', '-c', 'id; pwd; env'],
        cwd: '/usr',
        env: { A: 'b=c', PATH: '/bin' },
        uid: 1234,
        gid: 2345,
      }),
    );
    const lines = result.stdout.trim().split('\n');
    assert.equal(lines[0], 'uid=1234 gid=2345 groups=2345');
    assert.equal(lines[1], '/usr');
    assert.deepEqual(lines.slice(2).sort(), ['A=b=c', 'PATH=/bin', 'PWD=/usr']);
  });

  test('finds a program in its own path, not in the caller’s', async () => {
    const { stdout } = await finish(client.exec({ ...request, argv: ['echo', 'found'], env: { PATH: '/nowhere' } }));
    assert.equal(stdout, 'found\n');
  });

  const failures: readonly [string, Partial<GuestExecRequest>, RegExp][] = [
    ['an unknown program', { argv: ['no-such-program'] }, /cannot run the program: No such file/],
    ['a missing directory', { cwd: '/no/such/dir' }, /working directory: No such file/],
    ['a relative directory', { cwd: 'usr' }, /must be absolute/],
    ['an empty program name', { argv: [''] }, /no program is named/],
    ['a NUL in an argument', { argv: ['echo', 'a\0b'] }, /holds a NUL/],
    ['a nameless variable', { env: { '': 'x' } }, /variable is malformed/],
    ['too many arguments', { argv: ['echo', ...new Array<string>(1024).fill('x')] }, /too many arguments/],
    ['arguments that are too long', { argv: ['echo', 'x'.repeat(3 * 1024 * 1024)] }, /too long/],
  ];
  for (const [name, change, reason] of failures) {
    test(`refuses ${name}`, async () => {
      const exec = client.exec({ ...request, argv: ['echo'], ...change });
      await assert.rejects(finish(exec), { code: 'guest_rejected', message: reason });
    });
  }

  test('takes 1 MiB of arguments', async () => {
    const argument = 'x'.repeat(120 * 1024);
    const { stdout } = await finish(
      shell('', {
        argv: ['/bin/sh', '-c', 'printf %s "$8" | wc -c; echo $#', 'sh', ...new Array<string>(8).fill(argument)],
      }),
    );
    assert.equal(stdout, `${argument.length}\n8\n`);
  });

  test('streams input to a program and its output back, whatever the sizes', async () => {
    const exec = client.exec({ ...request, argv: ['cat'], stdin: true });
    const sent = Buffer.alloc(5_000_000, 'berth ');
    exec.stdin.end(sent);
    const [received, exit] = await Promise.all([buffer(exec.stdout), exec.exit]);
    assert.ok(received.equals(sent));
    assert.equal(exit.exitCode, 0);
  });

  test('gives a program without input an empty one', async () => {
    assert.equal((await finish(client.exec({ ...request, argv: ['wc', '-c'] }))).stdout, '0\n');
  });

  test('survives input that nobody reads', async () => {
    const exec = client.exec({ ...request, argv: ['true'], stdin: true });
    exec.stdin.write(Buffer.alloc(2_000_000));
    assert.equal((await exec.exit).exitCode, 0);
  });

  test('kills everything at the timeout', async () => {
    const result = await finish(shell('echo begun; sleep 60 & wait', { timeoutMs: 300 }));
    assert.deepEqual([result.stdout, result.exitCode, result.signal, result.timedOut], ['begun\n', null, 9, true]);
  });

  test('kill ends a program', async () => {
    const exec = shell('echo begun; sleep 60');
    await once(exec.stdout, 'data');
    exec.kill();
    assert.equal((await exec.exit).signal, 9);
  });

  test('does not wait for what a program leaves in the background', async () => {
    const result = await finish(shell('sleep 3 & echo done'));
    assert.deepEqual([result.stdout, result.exitCode], ['done\n', 0]);
    assert.ok(result.durationMicros < 3_000_000);
  });

  test('a slow reader holds the program up instead of filling memory', async () => {
    const exec = client.exec({ ...request, argv: ['sh', '-c', 'yes | head -c 20000000; echo end >&2'] });
    exec.stdout.pause();
    let ended = false;
    exec.stderr.on('data', () => {
      ended = true;
    });
    await finish(shell('sleep 0.3'));
    assert.equal(ended, false);
    assert.equal((await buffer(exec.stdout)).length, 20_000_000);
    assert.equal((await exec.exit).exitCode, 0);
    assert.equal(ended, true);
  });

  test('a terminal has a size, which changes', async () => {
    const exec = shell('stty size; read line; stty size; echo "got $line"', { pty: { cols: 100, rows: 30 } });
    const output = text(exec.stdout);
    await once(exec.stdout, 'data');
    exec.resize(120, 40);
    exec.stdin.write('hello\n');
    const exit = await exec.exit;
    assert.match(await output, /30 100\r\nhello\r\n40 120\r\ngot hello\r\n/);
    assert.equal(exit.exitCode, 0);
  });

  test('many run side by side', async () => {
    const results = await Promise.all(Array.from({ length: 100 }, (_, index) => finish(shell(`echo ${index}`))));
    assert.deepEqual(
      results.map(({ stdout }) => stdout),
      Array.from({ length: 100 }, (_, index) => `${index}\n`),
    );
  });
});

describe('connections', () => {
  test('reach a unix socket, and pass on each side’s end', async () => {
    const path = join(root, 'echo.sock');
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(path);
    await once(server, 'listening');
    const socket = await client.connect({ unix: path });
    socket.end(Buffer.alloc(3_000_000, 'ping'));
    assert.equal((await buffer(socket)).length, 3_000_000);
    server.close();
  });

  test('reach a loopback port', async () => {
    const server = createServer((socket) => socket.end('welcome')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const socket = await client.connect({ port });
    assert.equal(await text(socket), 'welcome');
    socket.end();
    server.close();
  });

  test('to nobody are refused', async () => {
    await assert.rejects(client.connect({ unix: join(root, 'nobody.sock') }), { code: 'guest_rejected' });
    await assert.rejects(client.connect({ port: 0 }), { code: 'guest_rejected' });
  });
});

describe('sessions', () => {
  test('client data that looks like a marker is only data', async () => {
    const forged = Buffer.concat([
      marker(makeNonce()),
      Buffer.from('between'),
      MAGIC,
      MAGIC.subarray(0, 7),
      marker(makeNonce()),
      MAGIC.subarray(0, 9),
    ]);
    const exec = client.exec({ ...request, argv: ['cat'], stdin: true });
    for (const byte of forged) exec.stdin.write(Buffer.from([byte]));
    exec.stdin.end(forged);
    assert.ok((await buffer(exec.stdout)).equals(Buffer.concat([forged, forged])));
  });

  test('a marker in the middle of anything begins a new session and ends what the old one ran', async () => {
    const fresh = await LocalGuest.start();
    const old = createGuestClient(fresh.openChannel);
    const pidFile = join(root, 'pid');
    const exec = old.exec({
      ...request,
      argv: ['/bin/sh', '-c', `echo $$ > ${pidFile}; echo begun; sleep 60`],
      stdin: true,
    });
    const [begun] = (await once(exec.stdout, 'data')) as [Buffer];
    assert.equal(begun.toString(), 'begun\n');
    const pid = (await readFile(pidFile, 'utf8')).trim();

    // What a host that died leaves behind: half a frame, half a marker.
    fresh.raw.removeAllListeners('data');
    fresh.raw.write(Buffer.concat([Buffer.from([0, 0, 100, 0]), marker(makeNonce()).subarray(0, 25)]));
    const heir = createGuestClient(fresh.openChannel);
    assert.equal((await heir.ready(5000)).protocol, 1);
    const { stdout } = await finish(
      heir.exec({
        ...request,
        argv: ['/bin/sh', '-c', `while kill -0 ${pid} 2>/dev/null; do sleep 0.05; done; echo gone`],
      }),
    );
    assert.equal(stdout, 'gone\n');
    heir.close();
    await fresh.destroy();
    await assert.rejects(exec.exit, { code: 'guest_interrupted' });
  });

  test('without a guest an operation fails as unavailable, and so does waiting for one', async () => {
    const nobody = createGuestClient(() => Promise.reject(new Error('ECONNREFUSED')));
    await assert.rejects(nobody.sync(), { code: 'guest_unavailable' });
    await assert.rejects(nobody.ready(200), { code: 'guest_unavailable' });
    await assert.rejects(nobody.exec({ ...request, argv: ['true'] }).exit, { code: 'guest_unavailable' });
  });

  test('a channel that stays silent is unavailable', async () => {
    const silent = new PassThrough();
    const waiting = createGuestClient(async () => silent, { connectTimeoutMs: 200 });
    await assert.rejects(waiting.sync(), { code: 'guest_unavailable' });
    waiting.close();
  });

  test('a closed client refuses', async () => {
    const closed = createGuestClient(guest.openChannel);
    closed.close();
    await assert.rejects(closed.sync(), { code: 'guest_unavailable' });
    await assert.rejects(closed.ready(1000), { code: 'guest_unavailable' });
  });
});
