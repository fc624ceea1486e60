import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CommandError } from '../common/command.ts';
import { readProcessFile } from '../common/processes.ts';
import { until } from '../common/testing/until.ts';
import { WaitingTool } from './host-tool.ts';

async function directory(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'berth-tool-'));
  t.after(() => rm(dir, { recursive: true }));
  return dir;
}

/** The lines of a file once there are so many. */
async function lines(path: string, count: number): Promise<string[]> {
  let found: string[] = [];
  await until(`${count} lines in ${path}`, async () => {
    const text = await readFile(path, 'utf8').catch(() => '');
    found = text.split('\n').slice(0, -1);
    return found.length >= count;
  });
  return found;
}

test('each use is a process of its own, started before it is needed', async (t) => {
  const started = join(await directory(t), 'started');
  const tool = new WaitingTool('sh', ['-c', 'echo $$ >> "$0"; read word; echo "$$ $word"', started]);
  t.after(() => tool.close());
  const [first] = await tool.run('one\n').then(({ stdout }) => stdout.trim().split(' '));
  const waiting = (await lines(started, 2))[1];
  assert.notEqual(waiting, first);
  assert.equal((await tool.run('two\n')).stdout, `${waiting} two\n`);
});

test('uses at the same time do not wait for each other', async (t) => {
  const tool = new WaitingTool('cat', []);
  t.after(() => tool.close());
  const words = ['a', 'b', 'c', 'd'];
  const answers = await Promise.all(words.map((word) => tool.run(word)));
  assert.deepEqual(
    answers.map(({ stdout }) => stdout),
    words,
  );
});

test('one that ended while it waited is not used', async (t) => {
  const started = join(await directory(t), 'started');
  const tool = new WaitingTool('sh', ['-c', 'echo $$ >> "$0"; cat', started]);
  t.after(() => tool.close());
  await tool.run('');
  const waiting = Number((await lines(started, 2))[1]);
  process.kill(waiting, 'SIGKILL');
  await until('it is gone', async () => (await readProcessFile(waiting, 'stat')) === null);
  await sleep(0);
  assert.equal((await tool.run('still')).stdout, 'still');
});

test('a failure is told with what the tool said', async (t) => {
  const tool = new WaitingTool('sh', ['-c', 'cat >&2; exit 3']);
  t.after(() => tool.close());
  await assert.rejects(
    tool.run('no such thing'),
    (error: CommandError) => error.exitCode === 3 && error.stderr === 'no such thing',
  );
});

test('closed, it lets the one that waits end', async (t) => {
  const path = join(await directory(t), 'life');
  const tool = new WaitingTool('sh', ['-c', 'echo begun >> "$0"; cat; echo ended >> "$0"', path]);
  await tool.run('');
  await lines(path, 3);
  tool.close();
  assert.deepEqual(await lines(path, 4), ['begun', 'ended', 'begun', 'ended']);
});
