/** The API reference's curl examples, as a reader would paste them: real curl, real VMs. */

import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { runCommand } from '../src/common/command.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';

let daemon: TestDaemon;
/** Where the commands run: archives and image files are here. */
let directory: string;
let vm: string;
let snapshot: string;
let image: string;

interface Answer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: answers are asserted on, not typed.
  readonly json: any;
}

before(async () => {
  directory = await mkdtemp('/tmp/berth-test-');
  daemon = await startDaemon();
});
after(async () => {
  await daemon.stop();
  await rm(directory, { recursive: true, force: true });
});

/** Runs a script in `directory`; `$HOST` and `$API_KEY` are the daemon's. */
async function shell(script: string): Promise<string> {
  const env = { ...process.env, HOST: daemon.url, API_KEY: daemon.apiKey };
  const { stdout } = await runCommand('sh', ['-euc', script], { cwd: directory, env, timeoutMs: 180_000 });
  return stdout;
}

/** Runs one curl command; its status is asked for beside what the example prints. */
async function curl(command: string): Promise<Answer> {
  const printed = await shell(`curl -sS -w '\\n%{http_code}' ${command}`);
  const cut = printed.lastIndexOf('\n');
  const body = printed.slice(0, cut);
  return { status: Number(printed.slice(cut + 1)), json: body === '' ? null : JSON.parse(body) };
}

function assertIsoDate(value: string): void {
  assert.equal(new Date(value).toISOString(), value);
}

const key = '-H "X-API-Key: $API_KEY"';
const json = '-H "Content-Type: application/json"';

describe('virtual machines', () => {
  it('are created', async () => {
    const { status, json: body } = await curl(`-X POST "$HOST/v1/vms" ${key} ${json} -d '{
      "cpu": 1,
      "memMb": 256,
      "allowIps": ["172.16.0.1/32"],
      "outboundInternet": true,
      "diskSizeMb": 512
    }'`);
    assert.equal(status, 201, JSON.stringify(body));
    const { id, state, cpu, memMb, guestIp, createdAt, provisionMode } = body;
    assert.match(id, /^[\w-]+$/);
    assert.deepEqual(
      { state, cpu, memMb, provisionMode },
      { state: 'RUNNING', cpu: 1, memMb: 256, provisionMode: 'boot' },
    );
    assert.equal(guestIp, '172.16.0.2');
    assertIsoDate(createdAt);
    vm = id;
  });

  it('are listed and looked at', async () => {
    const list = await curl(`${key} "$HOST/v1/vms"`);
    assert.equal(list.status, 200);
    assert.deepEqual(
      list.json.map((entry: { id: string }) => entry.id),
      [vm],
    );
    const one = await curl(`${key} "$HOST/v1/vms/${vm}"`);
    assert.deepEqual({ status: one.status, id: one.json.id }, { status: 200, id: vm });
  });

  it('have logs', async () => {
    const { status, json: body } = await curl(`${key} "$HOST/v1/vms/${vm}/logs?type=firecracker.log&tail=100"`);
    assert.equal(status, 200);
    assert.equal(body.type, 'firecracker.log');
    assert.ok(Array.isArray(body.lines) && body.lines.length <= 100, JSON.stringify(body));
    const console = await curl(`${key} "$HOST/v1/vms/${vm}/logs?type=firecracker.stdout.log&tail=100"`);
    assert.equal(console.status, 200);
    assert.ok(console.json.lines.length > 0, 'the console said nothing');
  });
});

describe('programs', () => {
  it('run in a shell as uid 1000', async () => {
    const { status, json: body } = await curl(`-X POST "$HOST/v1/vms/${vm}/exec" ${key} ${json} -d '{
      "cmd": "echo hello && id -u",
      "timeoutMs": 30000
    }'`);
    assert.equal(status, 200);
    const { exitCode, stdout, stderr } = body;
    assert.deepEqual({ exitCode, stdout, stderr }, { exitCode: 0, stdout: 'hello\n1000\n', stderr: '' });
  });

  it('run as inline TypeScript', async () => {
    const { status, json: body } = await curl(`-X POST "$HOST/v1/vms/${vm}/run-ts" ${key} ${json} -d '{
      "code": "console.log(2 + 2)"
    }'`);
    assert.deepEqual(
      { status, exitCode: body.exitCode, stdout: body.stdout },
      { status: 200, exitCode: 0, stdout: '4\n' },
    );
  });

  it('see the environment they were given', async () => {
    const { status, json: body } = await curl(`-X POST "$HOST/v1/vms/${vm}/run-ts" ${key} ${json} -d '{
      "env": ["API_TOKEN=secret123", "BASE_URL=https://api.example.com"],
      "code": "console.log(Deno.env.get(\\"BASE_URL\\"))"
    }'`);
    assert.deepEqual({ status, stdout: body.stdout }, { status: 200, stdout: 'https://api.example.com\n' });
  });

  it('return structured results', async () => {
    const { status, json: body } = await curl(`-X POST "$HOST/v1/vms/${vm}/run-ts" ${key} ${json} -d '{
      "code": "result.set({ ok: true, answer: 42 })"
    }'`);
    assert.equal(status, 200);
    const { exitCode, stdout, stderr, result } = body;
    const expected = { exitCode: 0, stdout: '', stderr: '', result: { ok: true, answer: 42 } };
    assert.deepEqual({ exitCode, stdout, stderr, result }, expected);
  });
});

describe('files', () => {
  it('are uploaded from an archive of tar', async () => {
    await shell('mkdir -p upload && echo "hello world" > upload/hello.txt && tar -czf upload.tar.gz -C upload .');
    const answer = await curl(`-X POST "$HOST/v1/vms/${vm}/files/upload?dest=%2Fworkspace%2Fproject" ${key} \
      -H "Content-Type: application/gzip" --data-binary @upload.tar.gz`);
    assert.deepEqual(answer, { status: 204, json: null });
  });

  it('are downloaded as an archive for tar', async () => {
    const answer = await curl(`${key} -o download.tar.gz \
      "$HOST/v1/vms/${vm}/files/download?path=%2Fworkspace%2Fproject"`);
    assert.deepEqual(answer, { status: 200, json: null });
    await shell('mkdir -p out && tar -xzf download.tar.gz -C out');
    assert.equal(await readFile(join(directory, 'out/hello.txt'), 'utf8'), 'hello world\n');
  });
});

describe('snapshots', () => {
  it('are taken of a running machine and listed', async () => {
    const { status, json: body } = await curl(`-X POST ${key} "$HOST/v1/vms/${vm}/snapshots"`);
    assert.equal(status, 201, JSON.stringify(body));
    assert.match(body.id, /^[\w-]+$/);
    assert.equal(body.vmId, vm);
    assertIsoDate(body.createdAt);
    snapshot = body.id;
    const list = await curl(`${key} "$HOST/v1/snapshots"`);
    assert.equal(list.status, 200);
    assert.deepEqual(
      list.json.map((entry: { id: string }) => entry.id),
      [snapshot],
    );
  });

  it('become machines with what was on the disk', async () => {
    const { status, json: body } = await curl(`-X POST "$HOST/v1/vms" ${key} ${json} -d '{
      "cpu": 1,
      "memMb": 256,
      "allowIps": ["172.16.0.1/32"],
      "snapshotId": "${snapshot}"
    }'`);
    assert.equal(status, 201, JSON.stringify(body));
    assert.equal(body.state, 'RUNNING');
    const read = await curl(`-X POST "$HOST/v1/vms/${body.id}/exec" ${key} ${json} \
      -d '{"cmd": "cat /workspace/project/hello.txt"}'`);
    assert.equal(read.json.stdout, 'hello world\n');
    assert.deepEqual(await curl(`-X DELETE ${key} "$HOST/v1/vms/${body.id}"`), { status: 204, json: null });
  });
});

describe('machines at their end', () => {
  it('are stopped, started and destroyed', async () => {
    assert.deepEqual(await curl(`-X POST ${key} "$HOST/v1/vms/${vm}/stop"`), { status: 204, json: null });
    assert.deepEqual(await curl(`-X POST ${key} "$HOST/v1/vms/${vm}/start"`), { status: 204, json: null });
    assert.deepEqual(await curl(`-X DELETE ${key} "$HOST/v1/vms/${vm}"`), { status: 204, json: null });
    const gone = await curl(`${key} "$HOST/v1/vms/${vm}"`);
    assert.equal(gone.status, 404);
    assert.deepEqual(Object.keys(gone.json), ['message']);
  });
});

describe('images', () => {
  it('are listed and made', async () => {
    const list = await curl(`${key} "$HOST/v1/images"`);
    assert.equal(list.status, 200);
    assert.equal(list.json.length, 1);
    const { status, json: body } = await curl(`-X POST "$HOST/v1/images" ${key} ${json} -d '{
      "name": "my-custom-image",
      "description": "Alpine with Python 3.12"
    }'`);
    assert.equal(status, 201, JSON.stringify(body));
    assert.equal(body.name, 'my-custom-image');
    image = body.id;
  });

  it('get their files, become the default, and are deleted', async () => {
    await copyFile(process.env.BERTH_TEST_KERNEL!, join(directory, 'vmlinux'));
    await shell('truncate -s 16M rootfs.ext4 && mke2fs -q -t ext4 rootfs.ext4');
    for (const [part, file] of [
      ['kernel', 'vmlinux'],
      ['rootfs', 'rootfs.ext4'],
    ]) {
      const answer = await curl(`-X PUT "$HOST/v1/images/${image}/${part}" ${key} \
        -H "Content-Type: application/octet-stream" --data-binary @${file}`);
      assert.ok([200, 204].includes(answer.status), `${part}: ${JSON.stringify(answer)}`);
    }
    const chosen = await curl(`-X POST ${key} "$HOST/v1/images/${image}/set-default"`);
    assert.ok([200, 204].includes(chosen.status), JSON.stringify(chosen));
    const deleted = await curl(`-X DELETE ${key} "$HOST/v1/images/${image}"`);
    assert.equal(deleted.status, 204, JSON.stringify(deleted));
  });
});

describe('what needs no key', () => {
  it('is the description of the API and its explorer, and nothing else', async () => {
    const { status, json: body } = await curl('"$HOST/openapi.json"');
    assert.equal(status, 200);
    assert.match(body.openapi, /^3\.0\./);
    const page = await shell('curl -sS -L -o page -w "%{http_code}" "$HOST/swagger"');
    assert.equal(page, '200');
    const refused = await curl('"$HOST/v1/vms"');
    assert.deepEqual({ status: refused.status, keys: Object.keys(refused.json) }, { status: 401, keys: ['message'] });
  });
});
