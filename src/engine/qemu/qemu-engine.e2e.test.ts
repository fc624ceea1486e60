import assert from 'node:assert/strict';
import { chown, mkdir, readdir, readFile, readlink, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createOverlay, info } from '../../disk/qcow2.ts';
import { createDisk } from '../../disk/testing/create-disk.ts';
import { engineSuite, eventually, guestMarker } from '../engine-suite.ts';
import type { QemuEngine } from './qemu-engine.ts';
import { type QemuHarness, qemuHarness, testLogBytes, testUid } from './test-harness.ts';

const needsRoot = { skip: testUid === null && 'needs root' };
engineSuite('qemu', qemuHarness);

describe('qemu: confinement and devices', () => {
  let harness: QemuHarness;
  let engine: QemuEngine;

  before(async () => {
    harness = await qemuHarness();
    engine = harness.open();
  });
  after(async () => {
    await engine.close();
    await harness.cleanUp();
  });

  test('the process has no privileges, a system call filter and a session of its own', needsRoot, async () => {
    const spec = await harness.spec('wait');
    await engine.start(spec);
    const { pid } = await engine.observe(spec.id, spec.dir);
    const status = await readFile(`/proc/${pid}/status`, 'utf8');
    const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*$`, 'm').exec(status)?.[1];
    assert.equal(field('Uid'), `${testUid}\t${testUid}\t${testUid}\t${testUid}`);
    assert.equal(field('Gid'), `${testUid}\t${testUid}\t${testUid}\t${testUid}`);
    assert.equal(field('Groups'), '');
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) assert.equal(field(set), '0000000000000000');
    assert.equal(field('NoNewPrivs'), '1');
    assert.equal(field('Seccomp'), '2');
    assert.equal((await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ')[3], String(pid));
    assert.deepEqual((await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0').filter(Boolean).sort(), [
      'LANG=C',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
    ]);
    await engine.destroy(spec.id, spec.dir);
  });

  test('cgroups hold it: limits set, its CPU time throttled, removed afterwards', needsRoot, async () => {
    const capabilities = await engine.capabilities();
    assert.deepEqual([capabilities.cpuLimits, capabilities.memoryLimits], [true, true]);
    const spec = await harness.spec('write forever');
    await engine.start({ ...spec, limits: { cpuPercent: 20, memoryOverheadMiB: 100 } });
    const { pid } = await engine.observe(spec.id, spec.dir);
    const groups = await groupsOf(pid as number, spec.id);
    const bytes = (192 + 128 + 100) * 1024 * 1024;
    const limits = await readFirst(groups, ['memory.max', 'memory.limit_in_bytes']);
    assert.equal(Number(limits), bytes);
    await eventually(async () => {
      const throttled = /nr_throttled (\d+)/.exec(await readFirst(groups, ['cpu.stat']))?.[1];
      return Number(throttled) > 0;
    });
    await engine.destroy(spec.id, spec.dir);
    for (const group of groups) await assert.rejects(stat(group), { code: 'ENOENT' });
  });

  test('the console log is bounded, and goes on while the daemon is away', async () => {
    const spec = await harness.spec('write forever');
    const first = harness.open();
    await first.start(spec);
    await first.close();
    const path = engine.consoleLog(spec.dir);
    await eventually(async () => (await stat(`${path}.1`)).size > testLogBytes.console / 2);
    await eventually(async () => (await readFile(path, 'utf8')).includes('xxxx'));
    assert.ok((await stat(path)).size <= testLogBytes.console);
    assert.ok((await stat(`${path}.1`)).size <= testLogBytes.console);
    await engine.destroy(spec.id, spec.dir);
  });

  for (const machine of ['microvm', 'q35'] as const) {
    test(`${machine}: disks and networks are accepted; a disk gets a new layer`, async () => {
      const spec = await harness.spec('wait');
      const above = dirname(spec.dir);
      const MiB = 1024 * 1024;
      await createDisk({ path: join(above, 'base.raw'), format: 'raw', sizeBytes: 16 * MiB, uid: testUid });
      const overlay = { backingFormat: 'raw', backing: 'base.raw', sizeBytes: 32 * MiB, uid: testUid } as const;
      await createOverlay({ ...overlay, path: join(above, 'one.qcow2') });
      await createOverlay({ ...overlay, path: join(above, 'two.qcow2'), backing: 'one.qcow2', backingFormat: 'qcow2' });
      await engine.start({
        ...spec,
        machine,
        disks: [
          { name: 'root', path: join(above, 'one.qcow2'), format: 'qcow2', readOnly: false },
          { name: 'fixed', path: join(above, 'base.raw'), format: 'raw', readOnly: true },
        ],
        nics: [{ name: 'eth0', backend: { kind: 'user', restrict: true }, mac: '02:00:00:00:00:01' }],
      });
      await eventually(async () => (await readFile(engine.consoleLog(spec.dir), 'utf8')).includes(guestMarker));
      const statePath = join(above, `${machine}.state`);
      await writeFile(statePath, '');
      if (testUid !== null) await chown(statePath, testUid, testUid);
      const capture = (disk: string, name: string) =>
        engine.capture(spec.id, spec.dir, {
          ...{
            memoryMiB: spec.memoryMiB,
            statePath,
            layer: { disk, path: join(above, name), mayHaveWrites: () => {} },
          },
          atRest: () => {},
          take: async () => {},
        });
      await capture('root', 'two.qcow2');
      assert.equal((await info(join(above, 'two.qcow2'), 'qcow2')).backing, 'one.qcow2');
      const { pid } = await engine.observe(spec.id, spec.dir);
      assert.deepEqual(await writableFiles(pid as number, above), [join(above, 'two.qcow2')]);
      await assert.rejects(capture('root', 'none.qcow2'), /QMP blockdev-add/);
      await assert.rejects(capture('other', 'none.qcow2'), /no disk other/);
      assert.equal((await engine.observe(spec.id, spec.dir)).state, 'running');
      await engine.destroy(spec.id, spec.dir);
    });
  }

  test('a tap that does not exist is not made', needsRoot, async () => {
    const spec = await harness.spec('wait');
    const tap = 'berthnone0';
    const nics = [{ name: 'eth0', backend: { kind: 'tap', tap }, mac: '02:00:00:00:00:02' }] as const;
    await assert.rejects(engine.start({ ...spec, nics }), { code: 'boot_failed' });
    await assert.rejects(stat(`/sys/class/net/${tap}`), { code: 'ENOENT' });
    assert.match(await readFile(engine.engineLog(spec.dir), 'utf8'), /berthnone0: No such device/);
  });

  test('concurrent questions share one probe', async () => {
    const answers = await Promise.all([engine.capabilities(), engine.capabilities()]);
    assert.deepEqual(answers[0], answers[1]);
    assert.equal(answers[0].acceleration, 'tcg');
    await mkdir(join(harness.root, 'engine'), { recursive: true });
    assert.deepEqual(
      (await readdir(join(harness.root, 'engine'))).filter((name) => name.startsWith('probe-')),
      [],
    );
  });
});

/** The VM's groups, from what the kernel says the process is in. */
async function groupsOf(pid: number, id: string): Promise<readonly string[]> {
  const mounts = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').map((line) => line.split(' '));
  const groups: string[] = [];
  for (const line of (await readFile(`/proc/${pid}/cgroup`, 'utf8')).trim().split('\n')) {
    const [, controllers = '', path = ''] = line.split(':');
    if (!path.endsWith(id)) continue;
    const mount = mounts.find((fields) => {
      const [type, , options = ''] = fields.slice(fields.indexOf('-') + 1);
      if (controllers === '') return type === 'cgroup2';
      return type === 'cgroup' && options.split(',').includes(controllers.split(',')[0] as string);
    });
    groups.push(`${mount?.[4]}${path}`);
  }
  assert.notEqual(groups.length, 0);
  return groups;
}

async function readFirst(directories: readonly string[], names: readonly string[]): Promise<string> {
  for (const directory of directories) {
    for (const name of names) {
      const text = await readFile(join(directory, name), 'utf8').catch(() => null);
      if (text !== null) return text;
    }
  }
  assert.fail(`no ${names.join(' or ')} in ${directories.join(', ')}`);
}

/** Files below `directory` that the process has open for writing. */
async function writableFiles(pid: number, directory: string): Promise<readonly string[]> {
  const found = new Set<string>();
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`);
    const flags = /flags:\s*(\d+)/.exec(await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0';
    if (target.startsWith(`${directory}/`) && (Number.parseInt(flags, 8) & 3) !== 0) found.add(target);
  }
  return [...found];
}
