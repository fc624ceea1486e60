import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../../common/command.ts';
import { logWritersEnded } from './log-writers.ts';

const launcher = fileURLToPath(new URL('launch.pl', import.meta.url));
const limit = 1000;
let dir: string;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'berth-launch-'));
});
afterEach(() => rm(dir, { recursive: true }));

/** Runs a command through the launcher and waits until its logs are complete. */
async function run(options: readonly string[], command: readonly string[], uid = '-'): Promise<void> {
  const log = join(dir, 'engine.log');
  const words = [...options, '--log', `engine=${limit}=${log}`, '--uid', uid, '--', ...command];
  try {
    await runCommand('perl', [launcher], { input: `${words.join('\0')}\0\n` });
  } finally {
    await logWritersEnded(log, 5000);
  }
}

test('what the command writes is in the log', async () => {
  await run([], ['sh', '-c', 'echo out; echo err >&2']);
  assert.equal(await readFile(join(dir, 'engine.log'), 'utf8'), 'out\nerr\n');
});

test('the newest text is kept, in at most twice the limit', async () => {
  await run(
    [],
    ['perl', '-e', '$| = 1; for (1 .. 60) { print "$_ ", "x" x 94, "\n"; select undef, undef, undef, 0.03 }'],
  );
  const [current, older] = await Promise.all(
    ['engine.log', 'engine.log.1'].map((name) => readFile(join(dir, name), 'utf8')),
  );
  assert.ok(current !== undefined && older !== undefined);
  assert.ok(current.length <= limit && older.length <= limit);
  const numbers = `${older}${current}`.match(/^\d+/gm)?.map(Number) ?? [];
  assert.equal(numbers.at(-1), 60);
  assert.ok(numbers.length > 10);
  assert.deepEqual(
    numbers,
    Array.from(numbers, (_, index) => 61 - numbers.length + index),
  );
});

test('a burst larger than the limit does not exceed it', async () => {
  await run([], ['perl', '-e', 'print "y" x 300_000']);
  for (const name of ['engine.log', 'engine.log.1']) assert.ok((await stat(join(dir, name))).size <= limit, name);
  assert.match(await readFile(join(dir, 'engine.log'), 'utf8'), /y$/);
});

test('a listening socket is bound, private, and handed over by number', async () => {
  const path = join(dir, 'a.sock');
  await run(
    ['--socket', `qmp=${path}`],
    ['perl', '-e', 'open my $s, "+<&=", shift or die; print -S $s ? "socket" : "no"', '@qmp@'],
  );
  assert.equal(await readFile(join(dir, 'engine.log'), 'utf8'), 'socket');
  assert.equal((await stat(path)).mode & 0o777, 0o700);
});

test('the process is in its group before it becomes the command', async () => {
  const procs = join(dir, 'cgroup.procs');
  await writeFile(procs, '');
  await run(['--cgroup', procs], ['sh', '-c', 'echo $$']);
  assert.equal(await readFile(join(dir, 'engine.log'), 'utf8'), `${await readFile(procs, 'utf8')}\n`);
});

test('a file is there under its number, for the command alone', async () => {
  const path = join(dir, 'file');
  await writeFile(path, 'content');
  await run(['--file', `100=${path}`], ['sh', '-c', 'cat /proc/self/fd/100']);
  assert.equal(await readFile(join(dir, 'engine.log'), 'utf8'), 'content');
});

test('words that break off start nothing', async () => {
  const log = join(dir, 'engine.log');
  const words = ['--log', `engine=${limit}=${log}`, '--uid', '-', '--', 'touch', join(dir, 'started')];
  for (const input of ['', words.join('\0'), `${words.join('\0')}\0`]) await runCommand('perl', [launcher], { input });
  await assert.rejects(stat(join(dir, 'started')), { code: 'ENOENT' });
});

test('a log is never written through a link', async () => {
  const target = join(dir, 'target');
  await writeFile(target, 'untouched');
  await symlink(target, join(dir, 'engine.log'));
  await assert.rejects(run([], ['true']));
  assert.equal(await readFile(target, 'utf8'), 'untouched');
});

test('the log writer gives up its rights', { skip: process.getuid?.() !== 0 && 'needs root' }, async () => {
  await chmod(dir, 0o711);
  const log = join(dir, 'engine.log');
  const find =
    'for d in /proc/[0-9]*; do grep -qs "^berth-log $1" $d/cmdline && grep -E "^([UG]id|Groups|CapPrm):" $d/status; done';
  await run([], ['sh', '-c', `sleep 0.5; ${find}; true`, '-', log], '54321');
  const ids = '54321\t54321\t54321\t54321';
  const expected = `Uid:\t${ids}\nGid:\t${ids}\nGroups:\t54321 \nCapPrm:\t0000000000000000\n`;
  assert.equal(await readFile(log, 'utf8'), expected);
});
