import assert from 'node:assert/strict';
import { chown, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { runCommand } from '../../common/command.ts';
import { readBacking } from '../../disk/backing.ts';
import { createOverlay } from '../../disk/qcow2.ts';
import { createDisk } from '../../disk/testing/create-disk.ts';
import type { EngineMerge, EngineVmSpec } from '../engine.ts';
import { eventually } from '../engine-suite.ts';
import type { QemuEngine } from './qemu-engine.ts';
import { QmpClient } from './qemu-qmp.ts';
import { type QemuHarness, qemuHarness, testUid } from './test-harness.ts';

const MiB = 1024 * 1024;
const ample = { disk: 'root', bytesPerSecond: null, signal: AbortSignal.timeout(60_000) };
/** So slow that it is under way whatever else is done. */
const slow = { bytesPerSecond: MiB };

/** With the process alive its memory holds what its files do not: that they are whole is seen after it was killed. */
describe('qemu: layers of a running disk are merged', () => {
  let harness: QemuHarness;
  let engine: QemuEngine;
  let spec: EngineVmSpec;
  let above: string;

  const path = (name: string) => join(above, name);
  const backing = (name: string) => readBacking(path(name));

  beforeEach(async () => {
    harness = await qemuHarness();
    engine = harness.open();
    spec = await harness.spec('wait');
    above = dirname(spec.dir);
    await createDisk({ path: path('base.raw'), format: 'raw', sizeBytes: 64 * MiB, uid: testUid });
    await qemuIo('base.raw', 'raw', ['write -P 1 0 64M']);
    for (const layer of [1, 2, 3, 4]) {
      const [below, backingFormat] =
        layer === 1 ? (['base.raw', 'raw'] as const) : ([`${layer - 1}.qcow2`, 'qcow2'] as const);
      const sizeBytes = (layer < 4 ? 96 : 128) * MiB;
      await createOverlay({ path: path(`${layer}.qcow2`), backing: below, backingFormat, sizeBytes, uid: testUid });
      await qemuIo(`${layer}.qcow2`, 'qcow2', [
        `write -P ${10 + layer} ${layer}M 20M`,
        `write -z ${30 + layer}M 512k`,
        `write -P ${20 + layer} ${40 + layer}M 4k`,
      ]);
    }
    await engine.start({ ...spec, disks: [{ name: 'root', path: path('4.qcow2'), format: 'qcow2', readOnly: false }] });
  });
  afterEach(async () => {
    await engine.close();
    await harness.cleanUp();
  });

  /** Fails when a pattern is not what is read. */
  async function qemuIo(name: string, format: string, commands: readonly string[]): Promise<void> {
    const args = ['-f', format, ...commands.flatMap((command) => ['-c', command]), path(name)];
    const { stdout } = await runCommand('qemu-io', args);
    assert.doesNotMatch(stdout, /failed|error/i);
  }

  /** What was written before the start, in whichever layers it is now. */
  async function assertWhole(name: string): Promise<void> {
    await runCommand('qemu-img', ['check', '-q', '-f', 'qcow2', path(name)]);
    await qemuIo(name, 'qcow2', [
      ...['read -P 1 0 1M', 'read -P 11 1M 1M', 'read -P 12 2M 1M', 'read -P 13 3M 1M', 'read -P 14 4M 20M'],
      ...[31, 32, 33, 34].map((at) => `read -P 0 ${at}M 512k`),
      ...[1, 2, 3, 4].flatMap((layer) => [
        `read -P ${20 + layer} ${40 + layer}M 4k`,
        `read -P 1 ${(40 + layer) * 1024 + 4}k 60k`,
      ]),
      'read -P 1 50M 14M',
      'read -P 0 64M 64M',
    ]);
  }

  async function killed(): Promise<void> {
    const { pid } = await engine.observe(spec.id, spec.dir);
    process.kill(pid as number, 'SIGKILL');
    assert.equal(await engine.waitForExit(spec.id, spec.dir, 10_000), true);
  }

  /** As a snapshot does: what is newest gets a layer above it. */
  async function addLayer(name: string, below: string, by: QemuEngine = engine): Promise<void> {
    const overlay = { backing: below, backingFormat: 'qcow2', sizeBytes: 128 * MiB, uid: testUid } as const;
    await createOverlay({ path: path(name), ...overlay });
    const statePath = path('state');
    await writeFile(statePath, '');
    if (testUid !== null) await chown(statePath, testUid, testUid);
    await by.capture(spec.id, spec.dir, {
      ...{ memoryMiB: spec.memoryMiB, statePath, layer: { disk: 'root', path: path(name), mayHaveWrites: () => {} } },
      atRest: () => {},
      take: async () => {},
    });
  }

  const merge = (base: string, options: Omit<EngineMerge, 'above' | 'base'> = ample) =>
    engine.mergeLayers(spec.id, spec.dir, { above: [path('4.qcow2')], ...options, base: path(base) });

  /** Begins a merge that takes seconds; resolves when some of it was copied. */
  async function begin(
    options: Omit<EngineMerge, 'above' | 'base' | 'disk'>,
  ): Promise<{ readonly merging: Promise<void> }> {
    const { blocks } = await stat(path('4.qcow2'));
    const merging = merge('base.raw', { disk: 'root', ...options });
    // It is awaited later.
    merging.catch(() => {});
    await eventually(async () => (await stat(path('4.qcow2'))).blocks > blocks);
    return { merging };
  }

  test('into the newest, which is whole however soon the process is killed then', async () => {
    await merge('base.raw');
    assert.equal(await backing('4.qcow2'), 'base.raw');
    await killed();
    await assertWhole('4.qcow2');
  });

  test('down to one that stays, and again with those that came since', async () => {
    await merge('2.qcow2');
    assert.equal(await backing('4.qcow2'), '2.qcow2');
    await addLayer('5.qcow2', '4.qcow2');
    await addLayer('6.qcow2', '5.qcow2');
    await merge('4.qcow2');
    assert.equal(await backing('6.qcow2'), '4.qcow2');
    await addLayer('7.qcow2', '6.qcow2');
    await merge('base.raw');
    assert.equal(await backing('7.qcow2'), 'base.raw');
    await killed();
    for (const name of ['7.qcow2', '6.qcow2', '4.qcow2', '3.qcow2']) {
      await runCommand('qemu-img', ['check', '-q', '-f', 'qcow2', path(name)]);
    }
    await assertWhole('7.qcow2');
    await assertWhole('6.qcow2');
  });

  test('not at all when it is broken off: the disk is as it was, and free', async () => {
    const controller = new AbortController();
    const { merging } = await begin({ ...slow, signal: controller.signal });
    controller.abort(new Error('enough'));
    await assert.rejects(merging, /enough/);
    assert.equal(await backing('4.qcow2'), '3.qcow2');
    await assert.rejects(merge('base.raw', { disk: 'root', ...slow, signal: controller.signal }), /enough/);
    await assert.rejects(merge('none.raw'), /does not stand on none.raw/);
    await assert.rejects(merge('4.qcow2'), /does not stand on 4.qcow2/);
    await addLayer('5.qcow2', '4.qcow2');
    await merge('base.raw');
    await killed();
    await assertWhole('5.qcow2');
  });

  test('until the process is killed in the middle: the disk is whole', async () => {
    const { merging } = await begin({ ...slow, signal: ample.signal });
    await killed();
    await assert.rejects(merging);
    assert.equal(await backing('4.qcow2'), '3.qcow2');
    await assertWhole('4.qcow2');
  });

  test('for a daemon that ended, to no effect: the next one finds the disk free', async () => {
    const { merging } = await begin({ ...slow, signal: ample.signal });
    await engine.close();
    await assert.rejects(merging);
    engine = harness.open();
    // Copied to the end, and waiting to be told to go on.
    await eventually(async () => {
      const qmp = new QmpClient(engine.controlSocket(spec.dir));
      await qmp.ready(5000);
      const [job] = (await qmp.execute('query-jobs')) as readonly { status: string }[];
      qmp.close();
      await qmp.closed;
      return job?.status === 'pending';
    });
    assert.equal(await backing('4.qcow2'), '3.qcow2');
    await addLayer('5.qcow2', '4.qcow2');
    await merge('base.raw');
    assert.equal(await backing('5.qcow2'), 'base.raw');
    await killed();
    await assertWhole('5.qcow2');
    await assertWhole('4.qcow2');
  });
});
