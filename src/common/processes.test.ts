import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { listPids, readProcessFile, signalProcess } from './processes.ts';

describe('processes', () => {
  it('are listed while they live, signalled, and neither read nor missed once they are gone', async () => {
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    const pid = child.pid as number;
    const ended = once(child, 'exit');
    await once(child, 'spawn');
    assert.ok((await listPids()).includes(pid));
    assert.notEqual(await readProcessFile(pid, 'stat'), null);
    signalProcess(pid, 'SIGKILL');
    assert.deepEqual(await ended, [null, 'SIGKILL']);
    assert.equal(await readProcessFile(pid, 'stat'), null);
    signalProcess(pid, 'SIGKILL');
  });

  it('do not hide other failures', async () => {
    await assert.rejects(readProcessFile(process.pid, 'task'), { code: 'EISDIR' });
    assert.throws(() => signalProcess(1, 'SIGNONE' as NodeJS.Signals), { code: 'ERR_UNKNOWN_SIGNAL' });
  });
});
