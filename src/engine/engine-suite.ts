import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { BerthError } from '../common/errors.ts';
import type { Engine, EngineExit, EngineVmSpec } from './engine.ts';

/** What a guest of the suite does after it has printed `guestMarker` on its console. */
export type GuestBehaviour = 'wait' | 'power off' | 'reboot' | 'write forever';

export const guestMarker = 'guest-is-up';

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

function watchExit(engine: Engine, { id, dir }: EngineVmSpec) {
  const { promise, resolve } = Promise.withResolvers<EngineExit>();
  return { watching: engine.watch(id, dir, resolve), done: promise };
}
