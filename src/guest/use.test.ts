import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, beforeEach, describe, test } from 'node:test';
import { pack } from 'tar-stream';
import { createGuestClient } from './client.ts';
import type { GuestClient, GuestExec, GuestExecRequest } from './guest.ts';
import { LocalGuest } from './testing/local-guest.ts';

const request = { cwd: '/', env: { PATH: '/usr/bin:/bin' }, uid: 0, gid: 0, timeoutMs: 20_000 } as const;

/** Counts requests, and can hold them back or refuse them. */
class Use {
  begun = 0;
  ended = 0;
  gate: Promise<void> | undefined;
  #whenIdle = Promise.withResolvers<void>();

  get open(): number {
    return this.begun - this.ended;
  }

  begin(): Promise<void> | undefined {
    this.begun++;
    return this.gate;
  }

  end(): void {
    this.ended++;
    if (this.open === 0) this.#whenIdle.resolve();
  }

  /** Resolves when no request is open; the test's time limit is the only one. */
  async idle(): Promise<void> {
    while (this.open > 0) {
      this.#whenIdle = Promise.withResolvers<void>();
      await this.#whenIdle.promise;
    }
  }
}

describe('the use of a guest', () => {
  let guest: LocalGuest;
  let client: GuestClient;
  let use: Use;
  let root: string;

  before(async () => {
    guest = await LocalGuest.start();
    root = await mkdtemp(join(tmpdir(), 'berth-use-'));
    client = createGuestClient(guest.openChannel, {
      use: { begin: () => use.begin(), end: () => use.end() },
    });
  });
  beforeEach(() => {
    use = new Use();
  });
  after(async () => {
    client.close();
    await guest.destroy();
    await rm(root, { recursive: true, force: true });
  });

  function run(script: string, change: Partial<GuestExecRequest> = {}): GuestExec {
    return client.exec({ ...request, argv: ['/bin/sh', '-c', script], ...change });
  }

  test('is told of short requests', async () => {
    await client.ready(5000);
    await use.idle();
    assert.equal(use.begun, 1);
  });

  for (const [what, script, change] of [
    ['ends', 'echo out; echo err >&2', {}],
    ['ends with its input open', 'true', { stdin: true }],
    ['cannot be started', '', { argv: ['/no/such/program'] }],
    ['is out of time', 'sleep 60', { timeoutMs: 100 }],
    ['leaves others in the background', 'sleep 1 &', {}],
  ] as const) {
    test(`lasts as long as a program, which ${what}`, async () => {
      const exec = run(script, change as Partial<GuestExecRequest>);
      exec.stdout.resume();
      exec.stderr.resume();
      await exec.exit.catch(() => {});
      await use.idle();
      assert.equal(use.begun, 1);
    });
  }

  test('goes on while a program runs', async () => {
    const exec = run('echo begun; read line', { stdin: true });
    await once(exec.stdout, 'data');
    assert.equal(use.open, 1);
    exec.stdin.end('\n');
    await exec.exit;
    await use.idle();
  });

  test('lasts as long as an upload, a refused one too', async () => {
    const archive = pack();
    const upload = client.uploadTar(join(root, 'in'), archive.pipe(new PassThrough()), { uid: 0, gid: 0, root });
    archive.entry({ name: 'file' }, 'content');
    archive.finalize();
    await upload;
    const stuck = new PassThrough();
    await assert.rejects(client.uploadTar('relative', stuck, { uid: 0, gid: 0, root }), { code: 'guest_rejected' });
    await use.idle();
    assert.equal(use.begun, 2);
  });

  test('lasts as long as a download, one that is given up too', async () => {
    await text(await client.downloadTar(root, { uid: 0, gid: 0, root }));
    (await client.downloadTar(root, { uid: 0, gid: 0, root })).destroy();
    await use.idle();
    assert.equal(use.begun, 2);
  });

  test('lasts as long as a connection', async () => {
    const path = join(root, 'echo.sock');
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(path);
    await once(server, 'listening');
    const connection = await client.connect({ unix: path });
    connection.write('x');
    await once(connection, 'data');
    assert.equal(use.open, 1);
    connection.end();
    await use.idle();
    server.close();
  });

  test('is waited for before anything is sent', async () => {
    const gate = Promise.withResolvers<void>();
    use.gate = gate.promise;
    const file = join(root, 'made');
    const exec = run(`touch ${file}; ls ${root}`);
    use.gate = undefined;
    assert.doesNotMatch(await text(run(`ls ${root}`).stdout), /made/);
    gate.resolve();
    assert.match(await text(exec.stdout), /made/);
  });

  test('that cannot be had fails the request, and is not ended', async () => {
    use.gate = Promise.reject(new Error('it does not wake'));
    await assert.rejects(client.sync(), { code: 'guest_unavailable' });
    assert.deepEqual([use.begun, use.ended], [1, 0]);
  });

  test('ends when there is no guest to be had', async () => {
    const nobody = createGuestClient(() => Promise.reject(new Error('ECONNREFUSED')), {
      use: { begin: () => use.begin(), end: () => use.end() },
    });
    await assert.rejects(nobody.sync(), { code: 'guest_unavailable' });
    assert.deepEqual([use.begun, use.ended], [1, 1]);
  });
});
