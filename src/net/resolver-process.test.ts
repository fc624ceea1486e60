import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { endProcess, findProcesses } from './resolver-process.ts';

test('a process is found by its exact command line and ended; others are left alone', async () => {
  // Ignores SIGTERM, says so once it does, and would end by itself.
  const program = "process.on('SIGTERM', () => {}); setTimeout(() => {}, 30_000); console.log('ready')";
  const argv = (mark: string): string[] => [process.execPath, '-e', program, mark];
  const start = async (mark: string) => {
    const child = spawn(process.execPath, argv(mark).slice(1), { stdio: ['ignore', 'pipe', 'ignore'] });
    await once(child.stdout, 'data');
    return child;
  };
  const mark = `berth-test-${process.pid}`;
  const [ours, other] = await Promise.all([start(mark), start(`${mark}-other`)]);
  try {
    assert.deepEqual(await findProcesses(argv(mark)), [ours.pid]);
    await endProcess(other.pid ?? 0, argv(mark));
    assert.equal(other.signalCode, null, 'a process with another command line is not signalled');
    const ended = once(ours, 'exit');
    await endProcess(ours.pid ?? 0, argv(mark));
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    assert.deepEqual(await findProcesses(argv(mark)), []);
  } finally {
    ours.kill('SIGKILL');
    other.kill('SIGKILL');
  }
});
