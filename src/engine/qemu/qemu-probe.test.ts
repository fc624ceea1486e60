import assert from 'node:assert/strict';
import { chmod, chown, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { pino } from 'pino';
import { bootUnderKvm, kvmAccess, ProbeCache, type ProbeRunner } from './qemu-probe.ts';

const log = pino({ level: 'silent' });
const key = { kernel: 'k', qemuVersion: '1', hostBoot: 'b' };
let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'berth-probe-'));
});
afterEach(() => rm(dir, { recursive: true }));

test('an answer is remembered for the same question only', async () => {
  const cache = new ProbeCache(dir, log);
  assert.equal(await cache.get(key), null);
  await cache.put(key, { kind: 'kvm', reason: 'booted' });
  assert.deepEqual(await new ProbeCache(dir, log).get(key), { kind: 'kvm', reason: 'booted' });
  for (const change of [{ kernel: 'l' }, { qemuVersion: '2' }, { hostBoot: 'c' }]) {
    assert.equal(await cache.get({ ...key, ...change }), null);
  }
  const other = { ...key, kernel: 'l' };
  await cache.put(other, { kind: 'tcg', reason: 'hung' });
  assert.deepEqual(await cache.get(key), { kind: 'kvm', reason: 'booted' });
  assert.deepEqual(await cache.get(other), { kind: 'tcg', reason: 'hung' });
});

test('a damaged memory counts as none', async () => {
  for (const text of [
    '',
    '{',
    '[]',
    '{"key":1}',
    JSON.stringify({ [JSON.stringify(key)]: { kind: 'x', reason: '' } }),
  ]) {
    await writeFile(join(dir, 'acceleration.json'), text);
    assert.equal(await new ProbeCache(dir, log).get(key), null);
  }
});

test('access follows the permissions of the device', { skip: process.getuid?.() !== 0 && 'needs root' }, async () => {
  const device = join(dir, 'kvm');
  assert.equal((await kvmAccess(1, device)).usable, false);
  await writeFile(device, '');
  const rows = [
    { gid: 0, mode: 0o600, expected: false },
    { gid: 0, mode: 0o660, expected: false },
    { gid: 99, mode: 0o640, expected: false },
    { gid: 99, mode: 0o660, expected: 99 },
    { gid: 99, mode: 0o666, expected: null },
  ] as const;
  for (const { gid, mode, expected } of rows) {
    await chown(device, 0, gid);
    await chmod(device, mode);
    const access = await kvmAccess(1234, device);
    assert.equal(access.usable ? access.group : false, expected, `${gid} ${mode.toString(8)}`);
    assert.deepEqual(await kvmAccess(null, device), { usable: true, group: null });
  }
});

for (const { name, output, ends, expected } of [
  { name: 'a kernel that boots and powers off', output: 'reached-user-space', ends: true, expected: 'kvm' },
  { name: 'a kernel that hangs before user space', output: '', ends: false, expected: 'tcg' },
  { name: 'a kernel that cannot power off', output: 'reached-user-space', ends: false, expected: 'tcg' },
  { name: 'a process that ends without booting', output: 'panic', ends: true, expected: 'tcg' },
] as const) {
  test(`${name} means ${expected}, and nothing stays behind`, async () => {
    const runner = new FakeRunner(`berth-acceleration-probe-${output}\n`, ends);
    const answer = await bootUnderKvm({ runner, stateDir: dir, kernel: '/k', uid: null, log, deadlineMs: 1 });
    assert.equal(answer.kind, expected);
    assert.notEqual(answer.reason, '');
    assert.deepEqual(runner.live, new Set());
    assert.deepEqual(await readdir(dir), []);
  });
}

test('a start that fails means tcg', async () => {
  const runner = new FakeRunner('', true);
  runner.start = () => Promise.reject(new Error('no'));
  const answer = await bootUnderKvm({ runner, stateDir: dir, kernel: '/k', uid: null, log });
  assert.equal(answer.kind, 'tcg');
  assert.deepEqual(await readdir(dir), []);
});

class FakeRunner implements ProbeRunner {
  readonly live = new Set<string>();
  readonly #output: string;
  readonly #ends: boolean;

  constructor(output: string, ends: boolean) {
    this.#output = output;
    this.#ends = ends;
  }

  async start({ id, dir: vmDir }: { id: string; dir: string }): Promise<void> {
    this.live.add(id);
    await writeFile(this.consoleLog(vmDir), this.#output);
  }

  async waitForExit(): Promise<boolean> {
    return this.#ends;
  }

  async destroy(id: string): Promise<void> {
    this.live.delete(id);
  }

  consoleLog(vmDir: string): string {
    return join(vmDir, 'console.log');
  }
}
