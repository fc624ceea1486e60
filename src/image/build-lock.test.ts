import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { withBuildLock } from './build-lock.ts';
import { scratchDirectory } from './testing/scratch.ts';

const never = new AbortController().signal;

describe('withBuildLock', () => {
  test('lets one in after the other', async (t) => {
    const path = join(await scratchDirectory(t), 'lock');
    const order: string[] = [];
    const gate = Promise.withResolvers<void>();
    const first = withBuildLock(
      path,
      () => order.push('first waits'),
      never,
      async () => {
        order.push('first in');
        await gate.promise;
        order.push('first out');
      },
    );
    const second = withBuildLock(
      path,
      () => {
        order.push('second waits');
        gate.resolve();
      },
      never,
      async () => order.push('second in'),
    );
    await Promise.all([first, second]);
    assert.deepEqual(order, ['first in', 'second waits', 'first out', 'second in']);
  });

  test('is free after a failure', async (t) => {
    const path = join(await scratchDirectory(t), 'lock');
    await assert.rejects(
      withBuildLock(path, assert.fail, never, () => Promise.reject(new Error('failed'))),
      /failed/,
    );
    assert.equal(await withBuildLock(path, assert.fail, never, async () => 'in'), 'in');
  });

  test('is held against another process until that dies', async (t) => {
    const path = join(await scratchDirectory(t), 'lock');
    const script = `
      const { withBuildLock } = await import(${JSON.stringify(import.meta.resolve('./build-lock.ts'))});
      await withBuildLock(${JSON.stringify(path)}, () => {}, new AbortController().signal, () => {
        console.log('held');
        setInterval(() => {}, 1000);
        return new Promise(() => {});
      });`;
    const holder = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    const result = await withBuildLock(
      path,
      () => holder.kill('SIGKILL'),
      never,
      async () => 'in',
    );
    assert.equal(result, 'in');
    assert.equal(holder.killed, true);
  });

  test('gives up when told to', async (t) => {
    const path = join(await scratchDirectory(t), 'lock');
    const abort = new AbortController();
    await withBuildLock(path, assert.fail, never, () =>
      assert.rejects(
        withBuildLock(
          path,
          () => abort.abort(),
          abort.signal,
          async () => 'in',
        ),
        { name: 'AbortError' },
      ),
    );
  });
});
