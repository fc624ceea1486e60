import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { watchSyncs } from '../../common/testing/syncs.ts';
import { mergeLayers } from './merge-layers.ts';
import { deviceId } from './qemu-args.ts';
import type { QmpClient, QmpEvent } from './qemu-qmp.ts';

/** In place of a QEMU: a monitor that says of a disk of two files what a merge asks, and that each command did its work. */
function monitor(base: string, done: string[]): Pick<QmpClient, 'closed' | 'execute' | 'onEvent'> {
  let tell: (event: QmpEvent) => void = () => {};
  const blockstats = [
    {
      qdev: deviceId('root'),
      'node-name': 'newest',
      backing: { 'node-name': 'base', parent: { 'node-name': 'file' } },
    },
  ];
  const answers: Readonly<Record<string, () => unknown>> = {
    'query-block-jobs': () => [],
    'query-blockstats': () => blockstats,
    'query-named-block-nodes': () => [{ drv: 'file', file: base, 'node-name': 'file' }],
    'block-stream': () => setImmediate(() => tell({ event: 'BLOCK_JOB_PENDING', data: { id: 'merge-root' } })),
    'human-monitor-command': () => '',
    'job-finalize': () => setImmediate(() => tell({ event: 'BLOCK_JOB_COMPLETED', data: { device: 'merge-root' } })),
  };
  return {
    closed: new Promise(() => {}),
    execute: async (command) => {
      done.push(command);
      return answers[command]?.();
    },
    onEvent: (listener) => {
      tell = listener;
      return () => {};
    },
  };
}

test('whichever file the process merges into is on the disk before the guest stands still for it', async (context) => {
  const dir = await mkdtemp(join(tmpdir(), 'berth-merge-'));
  context.after(() => rm(dir, { recursive: true }));
  const above = ['2.qcow2', '1.qcow2'].map((name) => join(dir, name));
  for (const path of above) await writeFile(path, '');
  const done: string[] = [];
  await watchSyncs(context, (path) => done.push(path));
  const base = join(dir, 'base.raw');
  const merge = { disk: 'root', above, base, bytesPerSecond: null, signal: new AbortController().signal };
  await mergeLayers(monitor(base, done) as QmpClient, merge);
  const [streaming, flushing] = [done.indexOf('block-stream'), done.indexOf('human-monitor-command')];
  assert.deepEqual(done.slice(streaming + 1, flushing).sort(), above.toSorted());
  assert.deepEqual(done.slice(flushing + 1), ['job-finalize']);
});
