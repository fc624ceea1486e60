import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, chown, copyFile, open, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { BerthError } from '../common/errors.ts';
import { type Engine, type EngineExit, type EngineVmSpec, memoryPageBytes } from './engine.ts';

/** What a guest of the suite does after it has printed `guestMarker` on its console. */
export type GuestBehaviour = 'wait' | 'power off' | 'reboot' | 'write forever' | 'beat';

export const guestMarker = 'guest-is-up';
/** What the guest that beats prints a few times a second. */
export const beat = 'beat';

/** Binds the suite to one engine. */
export interface EngineHarness {
  /** A new engine object, as a daemon that just started has; all share one host state. */
  open(): Engine;
  /** A new VM directory and what runs in it. */
  spec(behaviour: GuestBehaviour): Promise<EngineVmSpec>;
  /** The directory that holds the VMs' directories. */
  readonly vmsRoot: string;
  /** Ends all VMs of the harness and removes what it made. */
  cleanUp(): Promise<void>;
}

/** Behaviour that any engine must show. */
export function engineSuite(name: string, prepare: () => Promise<EngineHarness>): void {
  describe(`${name}: engine behaviour`, () => {
    let harness: EngineHarness;
    let engine: Engine;
    const begin = (behaviour: GuestBehaviour) => harness.spec(behaviour);

    before(async () => {
      harness = await prepare();
      engine = harness.open();
    });
    after(async () => {
      await engine.close();
      await harness.cleanUp();
    });

    test('a VM that was never started is absent, and may be destroyed', async () => {
      const { id, dir } = await begin('wait');
      assert.deepEqual(await engine.observe(id, dir), { state: 'absent', pid: null });
      assert.equal(await engine.usage(id, dir), null);
      assert.equal(await engine.waitForExit(id, dir, 0), true);
      await engine.destroy(id, dir);
      for (const call of [engine.pause(id, dir), engine.openChannel(id, dir), engine.watch(id, dir, () => {})]) {
        await assert.rejects(call, isBerthError('wrong_state'));
      }
    });

    test('a life: start, observe, pause, resume, use, destroy twice', async () => {
      const spec = await begin('wait');
      const { id, dir } = spec;
      await engine.start(spec);
      const { state, pid } = await engine.observe(id, dir);
      assert.equal(state, 'running');
      assert.ok(pid !== null && pid > 1);
      await engine.pause(id, dir);
      assert.deepEqual(await engine.observe(id, dir), { state: 'paused', pid });
      await engine.resume(id, dir);
      assert.deepEqual(await engine.observe(id, dir), { state: 'running', pid });
      assert.deepEqual(await engine.listLive(harness.vmsRoot), new Map([[id, pid]]));
      assert.deepEqual(await engine.listLive(`${harness.vmsRoot}/elsewhere`), new Map());
      const usage = await engine.usage(id, dir);
      assert.ok(usage !== null && usage.residentBytes > 1024 * 1024);
      assert.equal(await engine.waitForExit(id, dir, 10), false);
      await assert.rejects(engine.start(spec), isBerthError('conflict'));
      await engine.destroy(id, dir);
      assert.deepEqual(await engine.observe(id, dir), { state: 'absent', pid: null });
      assert.deepEqual(await engine.listLive(harness.vmsRoot), new Map());
      await engine.destroy(id, dir);
      assert.deepEqual(
        (await readdir(dir)).filter((name) => name.endsWith('.sock')),
        [],
      );
    });

    test('a VM survives its engine, and the next one takes it over', async () => {
      const spec = await begin('wait');
      const { id, dir } = spec;
      const first = harness.open();
      await first.start(spec);
      const { pid } = await first.observe(id, dir);
      await first.close();
      const second = harness.open();
      assert.deepEqual(await second.observe(id, dir), { state: 'running', pid });
      const exit = watchExit(second, spec);
      await exit.watching;
      const channel = await second.openChannel(id, dir);
      channel.destroy();
      await once(channel, 'close');
      (await second.openChannel(id, dir)).destroy();
      process.kill(pid as number, 'SIGKILL');
      assert.equal((await exit.done).reason, 'crashed');
      assert.equal((await second.observe(id, dir)).state, 'absent');
      await second.destroy(id, dir);
      await second.close();
    });

    test('the guest reaches its console and powers off', async () => {
      const spec = await begin('power off');
      await engine.start(spec);
      const exit = watchExit(engine, spec);
      await exit.watching;
      assert.equal((await exit.done).reason, 'shutdown');
      assert.equal(await engine.waitForExit(spec.id, spec.dir, 0), true);
      await engine.destroy(spec.id, spec.dir);
      assert.match(await readFile(engine.consoleLog(spec.dir), 'utf8'), new RegExp(guestMarker));
    });

    test('a reboot by the guest ends the process and is told from a power-off', async () => {
      const spec = await begin('reboot');
      await engine.start(spec);
      const exit = watchExit(engine, spec);
      await exit.watching;
      assert.equal((await exit.done).reason, 'reset');
    });

    test('destroying a watched VM is no crash', async () => {
      const spec = await begin('wait');
      await engine.start(spec);
      const exit = watchExit(engine, spec);
      await exit.watching;
      await engine.destroy(spec.id, spec.dir);
      assert.equal((await exit.done).reason, 'shutdown');
    });

    test('a VM goes on from what was captured of another, and can be captured itself', async () => {
      const source = await begin('beat');
      await engine.start(source);
      const console = (spec: EngineVmSpec) => readFile(engine.consoleLog(spec.dir), 'utf8');
      await eventually(async () => (await console(source)).includes(beat));
      const first = await captureVm(engine, source, null);
      assert.equal((await engine.observe(source.id, source.dir)).state, 'running');
      assert.equal(first.calls, 1);
      await engine.destroy(source.id, source.dir);

      const clone = await begin('wait');
      await prepareFrom(engine, clone, first);
      assert.equal((await engine.observe(clone.id, clone.dir)).state, 'paused');
      await engine.restore(clone.id, clone.dir);
      assert.equal((await engine.observe(clone.id, clone.dir)).state, 'paused');
      const second = await captureVm(engine, clone, first);
      assert.equal((await engine.observe(clone.id, clone.dir)).state, 'paused');
      assert.ok(second.ownPages < first.ownPages / 10, `${second.ownPages} of ${first.ownPages} pages`);
      await engine.resume(clone.id, clone.dir);
      await eventually(async () => (await console(clone)).includes(beat));
      assert.ok(!(await console(clone)).includes(guestMarker));
      await engine.destroy(clone.id, clone.dir);

      const grandchild = await begin('wait');
      await prepareFrom(engine, grandchild, second);
      await engine.restore(grandchild.id, grandchild.dir);
      await engine.resume(grandchild.id, grandchild.dir);
      await eventually(async () => (await console(grandchild)).includes(beat));
      await engine.destroy(grandchild.id, grandchild.dir);
    });

    test('a capture that fails leaves the VM running', async () => {
      const spec = await begin('wait');
      await engine.start(spec);
      const statePath = await emptyState(spec);
      const refuse = () => assert.fail('not now');
      await assert.rejects(
        engine.capture(spec.id, spec.dir, {
          memoryMiB: spec.memoryMiB,
          statePath,
          layer: null,
          atRest: refuse,
          take: async () => {},
        }),
        /not now/,
      );
      assert.equal((await engine.observe(spec.id, spec.dir)).state, 'running');
      await engine.destroy(spec.id, spec.dir);
    });

    test('a state that is damaged ends the prepared VM with a clear error', async () => {
      const source = await begin('wait');
      await engine.start(source);
      const captured = await captureVm(engine, source, null);
      await engine.destroy(source.id, source.dir);
      await truncate(captured.statePath, 1000);
      const clone = await begin('wait');
      await prepareFrom(engine, clone, captured);
      await assert.rejects(engine.restore(clone.id, clone.dir), isBerthError('snapshot_damaged'));
      assert.equal(await engine.waitForExit(clone.id, clone.dir, 5000), true);
      await engine.destroy(clone.id, clone.dir);
    });

    test('the fingerprint tells shapes apart, and nothing else', async () => {
      const { cpus, memoryMiB, machine } = await begin('wait');
      const shape = { cpus, memoryMiB, machine, disks: ['root'], nics: [{ name: 'eth0', kind: 'user' }] } as const;
      const fingerprint = await engine.fingerprint(shape);
      assert.match(fingerprint, /^[0-9a-f]{64}$/);
      assert.equal(await harness.open().fingerprint({ ...shape }), fingerprint);
      for (const other of [{ cpus: 2 }, { memoryMiB: 256 }, { disks: ['root', 'data'] }, { nics: [] }])
        assert.notEqual(await engine.fingerprint({ ...shape, ...other }), fingerprint);
    });

    test('a process that hangs is told so, and can be destroyed', async () => {
      const spec = await begin('wait');
      await engine.start(spec);
      const { pid } = await engine.observe(spec.id, spec.dir);
      process.kill(pid as number, 'SIGSTOP');
      await assert.rejects(engine.observe(spec.id, spec.dir), isBerthError('deadline_exceeded'));
      const next = harness.open();
      await assert.rejects(next.pause(spec.id, spec.dir), isBerthError('deadline_exceeded'));
      await next.destroy(spec.id, spec.dir);
      assert.equal((await next.observe(spec.id, spec.dir)).state, 'absent');
      await next.close();
    });

    test('a start that fails leaves nothing', async () => {
      const spec = await begin('wait');
      await assert.rejects(engine.start({ ...spec, kernel: `${spec.dir}/none` }), isBerthError('boot_failed'));
      assert.equal((await engine.observe(spec.id, spec.dir)).state, 'absent');
      assert.deepEqual(
        (await readdir(spec.dir)).filter((name) => name.endsWith('.sock')),
        [],
      );
      await engine.start(spec);
      assert.equal((await engine.observe(spec.id, spec.dir)).state, 'running');
      await engine.destroy(spec.id, spec.dir);
    });
  });
}

function isBerthError(code: BerthError['code']): (error: unknown) => boolean {
  return (error) => error instanceof BerthError && error.code === code;
}

/** Waits for a condition that is certain to come about; fails after a minute. */
export async function eventually(condition: () => Promise<boolean>): Promise<void> {
  for (let waited = 0; waited < 60_000; waited += 50) {
    if (await condition()) return;
    await delay(50);
  }
  assert.fail('the condition did not come about');
}

interface Captured {
  readonly statePath: string;
  /** A file as large as the guest's memory. */
  readonly memoryPath: string;
  readonly ownPages: number;
  /** How often the VM stood still. */
  readonly calls: number;
}

/** Captures a VM beside its directory; `below` is what the VM itself was prepared with. */
async function captureVm(engine: Engine, spec: EngineVmSpec, below: Captured | null): Promise<Captured> {
  const statePath = await emptyState(spec);
  const memoryPath = `${spec.dir}.memory`;
  if (below === null) {
    await writeFile(memoryPath, '');
    await truncate(memoryPath, spec.memoryMiB * 1024 * 1024);
  } else {
    await copyFile(below.memoryPath, memoryPath);
  }
  // Only so that the process may open it; the real thing is a file nobody can write to.
  await chmod(memoryPath, 0o666);
  await using file = await open(memoryPath, 'r+');
  let ownPages = 0;
  let calls = 0;
  const atRest = () => {
    calls++;
  };
  const take = async (page: number, bytes: Buffer) => {
    ownPages += bytes.length / memoryPageBytes;
    await file.write(bytes, 0, bytes.length, page * memoryPageBytes);
  };
  const { pausedMicros, handOut } = await engine.capture(spec.id, spec.dir, {
    memoryMiB: spec.memoryMiB,
    statePath,
    layer: null,
    atRest,
    take,
  });
  await handOut();
  assert.ok(pausedMicros > 0);
  return { statePath, memoryPath, ownPages, calls };
}

async function emptyState({ dir, uid }: EngineVmSpec): Promise<string> {
  const path = `${dir}.state`;
  await writeFile(path, '');
  if (uid !== null) await chown(path, uid, uid);
  return path;
}

async function prepareFrom(engine: Engine, spec: EngineVmSpec, { memoryPath, statePath }: Captured): Promise<void> {
  await using memory = await open(memoryPath, 'r');
  await using state = await open(statePath, 'r');
  await engine.prepare(spec, { memoryFd: memory.fd, stateFd: state.fd });
}

function watchExit(engine: Engine, { id, dir }: EngineVmSpec) {
  const { promise, resolve } = Promise.withResolvers<EngineExit>();
  return { watching: engine.watch(id, dir, resolve), done: promise };
}
