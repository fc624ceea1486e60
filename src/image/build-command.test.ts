import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CommandError } from '../common/command.ts';
import { exists } from '../common/files.ts';
import { runBuildCommand } from './build-command.ts';
import { scratchDirectory } from './testing/scratch.ts';

const never = new AbortController().signal;

/** A pipe that stays open until everything that was given its writing end is gone. */
const holdPipe = 'sleep 1000 & echo started; wait';

describe('runBuildCommand', () => {
  test('hands over every line of both streams', async () => {
    const lines: string[] = [];
    await runBuildCommand('sh', ['-c', 'echo one; echo two >&2; printf three'], {
      signal: never,
      onLine: (line) => lines.push(line),
    });
    assert.deepEqual(lines.toSorted(), ['one', 'three', 'two']);
  });

  test('adds to the environment and runs where it is told', async (t) => {
    const cwd = await scratchDirectory(t);
    await runBuildCommand('sh', ['-c', 'echo "$PART" > file'], { cwd, env: { PART: 'kernel' }, signal: never });
    assert.equal(await readFile(join(cwd, 'file'), 'utf8'), 'kernel\n');
  });

  for (const [name, command] of [
    ['that fails', ['sh', '-c', 'echo why >&2; exit 3']],
    ['that does not exist', ['/nonexistent']],
  ] as const) {
    test(`rejects for a command ${name}`, async () => {
      await assert.rejects(runBuildCommand(command[0], command.slice(1), { signal: never }), CommandError);
    });
  }

  test('ends everything that was started when aborted', async () => {
    const abort = new AbortController();
    // Settles when the pipes are closed: not while the sleeper lives.
    const command = runBuildCommand('sh', ['-c', holdPipe], { signal: abort.signal, onLine: () => abort.abort() });
    await assert.rejects(command, { name: 'AbortError' });
  });

  test('ends everything that was started when this process is killed', async (t) => {
    const marker = join(await scratchDirectory(t), 'still-there');
    const script = `
      const { runBuildCommand } = await import(${JSON.stringify(import.meta.resolve('./build-command.ts'))});
      await runBuildCommand('sh', ['-c', 'echo started; sleep 1; touch ${marker}'], {
        signal: new AbortController().signal,
        onLine: (line) => console.log(line),
      });`;
    const builder = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(builder.stdout, 'data');
    builder.kill('SIGKILL');
    await sleep(2000);
    assert.equal(await exists(marker), false);
  });
});
