import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BerthError } from '../../common/errors.ts';
import { execInGuest, shellCommand } from './exec.ts';
import type { ExecBody } from './schemas.ts';
import { defaultLimits } from './settings.ts';
import { FakeGuest } from './testing/fake-guest.ts';
import { FakeVms } from './testing/fake-vms.ts';
import { LocalGuest } from './testing/local-guest.ts';
import { createTestApi, testKey } from './testing/test-api.ts';

describe('exec in a real shell', () => {
  let directory: string;
  let guest: LocalGuest;

  before(async () => {
    directory = await realpath(await mkdtemp(join(tmpdir(), 'exec-')));
    await mkdir(join(directory, 'src'));
    guest = new LocalGuest(directory);
  });

  after(() => rm(directory, { recursive: true, force: true }));

  async function run(body: ExecBody): Promise<string> {
    return (await execInGuest(guest, body, defaultLimits)).stdout.replaceAll(directory, '/workspace');
  }

  test('output, error output and exit code', async () => {
    const { guestMicros, ...outcome } = await execInGuest(
      guest,
      { cmd: 'echo out; echo err >&2; exit 3' },
      defaultLimits,
    );
    assert.ok(guestMicros > 0);
    assert.deepEqual(outcome, {
      exitCode: 3,
      stdout: 'out\n',
      stderr: 'err\n',
      truncated: false,
      timedOut: false,
    });
  });

  test('a command that is not found is 127, one that is killed -1', async () => {
    assert.equal((await execInGuest(guest, { cmd: 'no-such-command' }, defaultLimits)).exitCode, 127);
    assert.equal((await execInGuest(guest, { cmd: 'kill -9 $$' }, defaultLimits)).exitCode, -1);
  });

  const directories: readonly [cwd: string | undefined, expected: string][] = [
    [undefined, '/workspace'],
    ['src', '/workspace/src'],
    ['/workspace/src', '/workspace/src'],
    ['/etc', '/workspace'],
    ['../..', '/workspace'],
    ['missing', '/workspace'],
    ['-', '/workspace'],
  ];
  for (const [cwd, expected] of directories) {
    test(`in ${cwd ?? 'no directory'}`, async () => {
      assert.equal(await run({ cmd: 'pwd', cwd }), `${expected}\n`);
    });
  }

  test('variables, which need no quoting', async () => {
    const value = `a 'b' "c" $HOME \n`;
    assert.equal(await run({ cmd: 'printf %s "$X"', env: { X: value } }), value);
  });

  test("a caller's PATH is the command's, in spite of the profile", async () => {
    assert.equal(await run({ cmd: '/bin/echo "$PATH"', env: { PATH: "/it's/mine" } }), "/it's/mine\n");
  });

  test('standard input is at its end', async () => {
    assert.equal(await run({ cmd: 'cat; echo done' }), 'done\n');
  });

  test('a script too long for an argument', async () => {
    const cmd = `x='${'y'.repeat(200_000)}'; cat; echo "\${#x}"; pwd`;
    assert.equal(await run({ cmd, cwd: 'src' }), '200000\n/workspace/src\n');
  });

  test('an empty command', async () => {
    assert.equal((await execInGuest(guest, { cmd: '' }, defaultLimits)).exitCode, 0);
  });
});

describe('exec in a fake guest', () => {
  const body = { cmd: 'x' };

  test('what the guest is asked for', async () => {
    const guest = new FakeGuest();
    await execInGuest(guest, { cmd: 'x', env: { A: 'b', HOME: '/h', PATH: '/evil' } }, defaultLimits);
    const [request] = guest.commands;
    assert.equal(request?.argv[0], '/bin/sh');
    assert.deepEqual([request?.uid, request?.gid, request?.timeoutMs, request?.stdin], [1000, 1000, 30_000, false]);
    assert.deepEqual(request?.env, {
      PATH: '/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin',
      HOME: '/h',
      USER: 'user',
      LOGNAME: 'user',
      SHELL: '/bin/sh',
      LANG: 'C.UTF-8',
      TMPDIR: '/tmp',
      A: 'b',
    });
  });

  test('the time limit shows as the original shows it', async () => {
    const guest = new FakeGuest();
    guest.onExec = () => ({ stdout: [Buffer.from('a\n')], exit: { exitCode: null, signal: 9, timedOut: true } });
    const outcome = await execInGuest(guest, { ...body, timeoutMs: 100 }, defaultLimits);
    assert.deepEqual([outcome.exitCode, outcome.stdout, outcome.stderr], [-1, 'a\n', '\nTimeout exceeded']);
    assert.equal(guest.commands[0]?.timeoutMs, 100);
  });

  test('a limit of nothing starts nothing', async () => {
    const guest = new FakeGuest();
    for (const timeoutMs of [0, -5]) {
      const { exitCode, stderr } = await execInGuest(guest, { ...body, timeoutMs }, defaultLimits);
      assert.deepEqual([exitCode, stderr], [-1, '\nTimeout exceeded']);
    }
    assert.equal(guest.commands.length, 0);
  });

  test('output over the limit is cut and said to be', async () => {
    const guest = new FakeGuest();
    guest.onExec = () => ({ stdout: Array(20).fill(Buffer.alloc(100_000, 'x')), stderr: [Buffer.from('all')] });
    const { stdout, stderr, truncated } = await execInGuest(guest, body, defaultLimits);
    assert.deepEqual([stdout.length, stderr, truncated], [1_000_000, 'all', true]);
  });

  test('an interrupted command fails and is not repeated', async () => {
    const guest = new FakeGuest();
    guest.onExec = () => ({ failure: new BerthError('guest_interrupted') });
    await assert.rejects(execInGuest(guest, body, defaultLimits), { code: 'guest_interrupted', http: 502 });
    assert.equal(guest.commands.length, 1);
  });

  test('quotes in a PATH', () => {
    const { argv } = shellCommand({ cmd: 'x', env: { PATH: `';rm -rf /;'` } }, 1);
    assert.equal(argv.at(-1), `export PATH=''\\'';rm -rf /;'\\'''; x`);
  });
});

for (const { code, what, change, status, message } of [
  { code: 'guest_interrupted', what: 'is being removed', change: 'removing', status: 404, message: 'VM not there' },
  { code: 'guest_interrupted', what: 'is gone', change: 'gone', status: 404, message: 'VM not there' },
  { code: 'guest_interrupted', what: 'is there', change: 'stopping', status: 502, message: 'The connection' },
  { code: 'guest_unavailable', what: 'is being removed', change: 'removing', status: 404, message: 'VM not there' },
  { code: 'guest_unavailable', what: 'is gone', change: 'gone', status: 404, message: 'VM not there' },
  { code: 'guest_unavailable', what: 'is there', change: 'stopping', status: 503, message: 'The guest does' },
] as const) {
  test(`a command that ended with ${code} is told ${status} where its VM ${what}`, async () => {
    await using api = await createTestApi();
    for (const [method, path, body] of [
      ['POST', 'exec', { cmd: 'sleep 60' }],
      ['POST', 'run-ts', { code: '1' }],
      ['POST', 'run-js', { code: '1' }],
      ['GET', 'files/download?path=/workspace', undefined],
    ] as const) {
      const id = await api.createVm();
      const interrupt = () => {
        if (change === 'gone') void api.vms.remove(id);
        else api.vms.force(id, { state: change });
        return { failure: new BerthError(code) };
      };
      api.vms.fakeGuest.onExec = interrupt;
      api.vms.fakeGuest.onDownload = async () => Promise.reject(interrupt().failure);
      const { status: answered, json } = await api.call(method, `/v1/vms/${id}/${path}`, body);
      assert.equal(answered, status, path);
      assert.ok(json.message.startsWith(message.replace('not there', `${id} not found`)), json.message);
    }
  });
}

test('a client that goes away before it has its answer ends its command, and all it started', async () => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'exec-')));
  const guest = new LocalGuest(directory);
  const vms = new FakeVms();
  await using api = await createTestApi({ vms: Object.assign(vms, { guest: () => guest }) });
  const id = await api.createVm();
  const url = await api.app.listen({ host: '127.0.0.1', port: 0 });
  const client = new AbortController();
  const call = fetch(`${url}/v1/vms/${id}/exec`, {
    method: 'POST',
    headers: { 'x-api-key': testKey, 'content-type': 'application/json' },
    body: JSON.stringify({ cmd: 'echo begun > begun; exec sleep 60' }),
    signal: client.signal,
  });
  while (!existsSync(join(directory, 'begun'))) await sleep(10);
  client.abort();
  await assert.rejects(call, { name: 'AbortError' });
  while (!api.execLog.entries.has(id)) await sleep(10);
  assert.equal(JSON.parse(String(api.execLog.entries.get(id)?.[0]?.result)).exitCode, -1);
  await rm(directory, { recursive: true });
});
