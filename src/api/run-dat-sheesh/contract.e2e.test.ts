/** The rows of the wire that need a real guest, against a real daemon and real VMs. */

import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { extract, pack } from 'tar-stream';
import { startDaemon, type TestDaemon } from '../../../test/support/daemon.ts';

interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly truncated?: boolean;
  readonly result?: unknown;
  readonly error?: { readonly name: string; readonly message: string; readonly stack: string };
}

let daemon: TestDaemon;
let vm: string;

async function create(body: object = {}): Promise<string> {
  const response = await daemon.call('POST', '/v1/vms', { cpu: 1, memMb: 512, allowIps: [], ...body });
  const json = (await response.json()) as { id: string; state: string };
  assert.equal(response.status, 201, JSON.stringify(json));
  assert.equal(json.state, 'RUNNING');
  return json.id;
}

async function run(kind: 'exec' | 'run-ts' | 'run-js', body: object, id = vm): Promise<Outcome> {
  const response = await daemon.call('POST', `/v1/vms/${id}/${kind}`, { timeoutMs: 120_000, ...body });
  const json = await response.json();
  assert.equal(response.status, 200, JSON.stringify(json));
  return json as Outcome;
}

async function archive(files: Readonly<Record<string, Buffer | string>>): Promise<Buffer> {
  const packer = pack();
  for (const [name, content] of Object.entries(files)) packer.entry({ name }, content);
  packer.finalize();
  return gzipSync(await buffer(packer), { level: 1 });
}

function upload(dest: string, bytes: Buffer): Promise<Response> {
  return daemon.call('POST', `/v1/vms/${vm}/files/upload?dest=${encodeURIComponent(dest)}`, bytes, {
    headers: { 'content-type': 'application/gzip' },
  });
}

async function download(path: string): Promise<Record<string, Buffer>> {
  const response = await daemon.call('GET', `/v1/vms/${vm}/files/download?path=${encodeURIComponent(path)}`);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'application/gzip');
  const tar = gunzipSync(Buffer.from(await response.arrayBuffer()));
  const files: Record<string, Buffer> = {};
  for await (const entry of Readable.from([tar]).pipe(extract())) {
    files[entry.header.name] = await buffer(entry as unknown as Readable);
  }
  return files;
}

before(async () => {
  daemon = await startDaemon();
  vm = await create();
});

after(() => daemon.stop());

describe('exec', () => {
  test('the example of the reference', async () => {
    const outcome = await run('exec', { cmd: 'echo hello && id -u', timeoutMs: 30_000 });
    assert.deepEqual(outcome, { exitCode: 0, stdout: 'hello\n1000\n', stderr: '' });
  });

  test('group, environment and directory', async () => {
    const { stdout } = await run('exec', { cmd: 'id -g; pwd; echo "$HOME $USER $LANG $TMPDIR $X"', env: { X: 'y z' } });
    assert.equal(stdout, '1000\n/workspace\n/home/user user C.UTF-8 /tmp y z\n');
  });

  test('directories that are missing or outside become the workspace', async () => {
    for (const cwd of ['/etc', 'missing', '../..']) {
      assert.equal((await run('exec', { cmd: 'pwd', cwd })).stdout, '/workspace\n', cwd);
    }
  });

  test('exit codes', async () => {
    assert.equal((await run('exec', { cmd: 'exit 3' })).exitCode, 3);
    assert.equal((await run('exec', { cmd: 'no-such-command' })).exitCode, 127);
    assert.equal((await run('exec', { cmd: 'kill -9 $$' })).exitCode, -1);
  });

  test('the time limit ends the whole group and keeps what was written', async () => {
    const mark = `limit-${Date.now()}`;
    const cmd = `echo a; (exec -a ${mark} sleep 1000) & wait`;
    const outcome = await run('exec', { cmd, timeoutMs: 8000 });
    assert.deepEqual(outcome, { exitCode: -1, stdout: 'a\n', stderr: '\nTimeout exceeded' });
    const { stdout } = await run('exec', { cmd: `grep -alz '${mark.slice(0, 3)}[i]t-' /proc/[0-9]*/cmdline | wc -l` });
    assert.equal(stdout.trim(), '0');
  });

  test('standard input is at its end', async () => {
    assert.equal((await run('exec', { cmd: 'cat; echo done' })).stdout, 'done\n');
  });

  test('a lot of output is cut and said to be', async () => {
    const outcome = await run('exec', { cmd: 'head -c 1500000 /dev/zero | tr "\\0" x; echo end >&2' });
    assert.deepEqual([outcome.exitCode, outcome.stdout.length, outcome.truncated], [0, 1_000_000, true]);
    assert.equal(outcome.stderr, 'end\n');
  });

  test('a script of half a megabyte', async () => {
    const cmd = `x='${'y'.repeat(500_000)}'; echo "\${#x}"`;
    assert.equal((await run('exec', { cmd })).stdout, '500000\n');
  });

  test('a PATH of the caller rules its command only', async () => {
    const outcome = await run('exec', { cmd: 'echo "$PATH"; ls', env: { PATH: '/nowhere' } });
    assert.equal(outcome.stdout, '/nowhere\n');
    assert.equal(outcome.exitCode, 127);
  });
});

describe('run-ts', () => {
  test('a result beside output', async () => {
    const outcome = await run('run-ts', { code: 'console.log("x"); result.set({ ok: true, n: 42 })' });
    assert.deepEqual(outcome, { exitCode: 0, stdout: 'x\n', stderr: '', result: { ok: true, n: 42 } });
  });

  test('any JSON is a result', async () => {
    assert.deepEqual((await run('run-ts', { code: 'result.set([1, "two", null])' })).result, [1, 'two', null]);
  });

  test('an uncaught error', async () => {
    const { exitCode, stdout, stderr, error } = await run('run-ts', { code: 'throw new Error("boom")' });
    assert.deepEqual([exitCode, stdout, stderr, error?.name, error?.message], [1, '', '', 'Error', 'boom']);
    assert.match(error?.stack ?? '', /^Error: boom\n {4}at file:\/\/\/workspace\//);
  });

  test('no network without outboundInternet', async () => {
    const { error } = await run('run-ts', { code: 'await fetch("http://172.16.0.1/")' });
    assert.equal(error?.name, 'NotCapable');
    assert.match(error?.message ?? '', /Requires net access to "172.16.0.1:80", run again with the --allow-net flag/);
  });

  test('variables, arguments, a file and its imports', async () => {
    const files = {
      'lib.ts': 'export const five: number = 5;',
      'main.ts': 'import { five } from "./lib.ts"; result.set([five, Deno.args, Deno.env.get("A"), Deno.cwd()]);',
    };
    assert.equal((await upload('/workspace/ts', await archive(files))).status, 204);
    const outcome = await run('run-ts', { path: 'ts/main.ts', args: ['x'], env: ['A=b=c'] });
    assert.deepEqual(outcome.result, [5, ['x'], 'b=c', '/workspace/ts']);
  });

  test('code imports from the workspace and leaves nothing there', async () => {
    assert.equal((await run('run-ts', { code: 'import { five } from "./ts/lib.ts"; result.set(five)' })).result, 5);
    const { stdout } = await run('exec', { cmd: 'ls -A /workspace | grep -c "run-ts" || true' });
    assert.equal(stdout, '0\n');
  });
});

test('run-js', async () => {
  const outcome = await run('run-js', {
    code: 'const fs = require("node:fs"); result.set(fs.existsSync("/workspace"))',
  });
  assert.deepEqual(outcome, { exitCode: 0, stdout: '', stderr: '', result: true });
  assert.equal(
    (await run('run-js', { code: 'import os from "node:os"; result.set(await os.platform())' })).result,
    'linux',
  );
});

describe('files', () => {
  test('come back as they went, owned by the user', async () => {
    const files = { 'hello.txt': 'hello world\n', 'sub/deep/x': Buffer.alloc(100_000, 7) };
    assert.equal((await upload('/workspace/project', await archive(files))).status, 204);
    const { stdout } = await run('exec', {
      cmd: 'stat -c %u:%g project project/hello.txt project/sub/deep; cat project/hello.txt',
    });
    assert.equal(stdout, '1000:1000\n1000:1000\n1000:1000\nhello world\n');
    const back = await download('/workspace/project');
    assert.equal(back['./hello.txt']?.toString(), 'hello world\n');
    assert.deepEqual(back['./sub/deep/x'], files['sub/deep/x']);
    assert.deepEqual(Object.keys(await download('project/hello.txt')), ['hello.txt']);
  });

  test('a download larger than 50 MB is whole', async () => {
    await run('exec', {
      cmd: 'mkdir -p big && head -c 70000000 /dev/urandom > big/data && sha256sum < big/data > big/sum',
    });
    const back = await download('big');
    const { createHash } = await import('node:crypto');
    const sum = createHash('sha256').update(back['./data']!).digest('hex');
    assert.equal(back['./sum']?.toString().split(' ')[0], sum);
    await run('exec', { cmd: 'rm -r big' });
  });

  test('links do not lead out of the workspace', async () => {
    await run('exec', { cmd: 'ln -s /etc out' });
    const response = await daemon.call('GET', `/v1/vms/${vm}/files/download?path=out/passwd`);
    assert.deepEqual([response.status, await response.json()], [400, { message: 'Invalid download path' }]);
    assert.equal((await upload('/workspace/out/x', await archive({ a: 'b' }))).status, 400);
    assert.equal((await run('exec', { cmd: 'ls /etc/x 2>/dev/null; rm out' })).stdout, '');
  });

  test('what is missing', async () => {
    const response = await daemon.call('GET', `/v1/vms/${vm}/files/download?path=nothing/here`);
    assert.deepEqual([response.status, await response.json()], [400, { message: 'Invalid download path' }]);
  });
});

test('the console log tells of the boot', async () => {
  const response = await daemon.call('GET', `/v1/vms/${vm}/logs?type=firecracker.stdout.log&tail=1000`);
  const { lines, type } = (await response.json()) as { lines: string[]; type: string };
  assert.equal(type, 'firecracker.stdout.log');
  assert.ok(lines.length > 0);
});

test('files outlive stop and start, and go into snapshots', async () => {
  await run('exec', { cmd: 'echo kept > kept; sync' });
  const snapshot = await daemon.call('POST', `/v1/vms/${vm}/snapshots`);
  assert.equal(snapshot.status, 201);
  const { id: snapshotId, sourceVmId } = (await snapshot.json()) as { id: string; sourceVmId: string };
  assert.equal(sourceVmId, vm);
  const restored = await create({ snapshotId });
  assert.equal((await run('exec', { cmd: 'cat kept' }, restored)).stdout, 'kept\n');
  assert.equal((await daemon.call('DELETE', `/v1/vms/${restored}`)).status, 204);

  assert.equal((await daemon.call('POST', `/v1/vms/${vm}/stop`)).status, 204);
  const refused = await daemon.call('POST', `/v1/vms/${vm}/exec`, { cmd: 'true' });
  assert.deepEqual(
    [refused.status, await refused.json()],
    [409, { message: 'VM must be RUNNING to exec (state=STOPPED)' }],
  );
  assert.equal((await daemon.call('POST', `/v1/vms/${vm}/start`)).status, 204);
  assert.equal((await run('exec', { cmd: 'cat kept' })).stdout, 'kept\n');
});

test('a VM that was deleted is gone, and a download that was under way does not look whole', async () => {
  const id = await create();
  await run('exec', { cmd: 'truncate -s 200M hole' }, id);
  const download = await daemon.call('GET', `/v1/vms/${id}/files/download?path=.`);
  assert.equal(download.status, 200);
  const body = assert.rejects(download.arrayBuffer());
  assert.equal((await daemon.call('DELETE', `/v1/vms/${id}`)).status, 204);
  await body;
  assert.equal((await daemon.call('DELETE', `/v1/vms/${id}`)).status, 404);
  assert.equal((await daemon.call('GET', `/v1/vms/${id}`)).status, 404);
});
