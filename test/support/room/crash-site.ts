import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import type { Plan } from '../../../src/vm/plans.ts';
import { stepsOf } from '../../../src/vm/run-steps.ts';
import { eventually } from '../eventually.ts';
import { inventory } from './inventory.ts';
import { Room, RoomDied } from './room.ts';

/** One row of a crash matrix. */
export interface Operation {
  /** Brings about what the operation is done to, and returns its id. */
  readonly setUp?: () => Promise<string>;
  readonly act: (subject: string) => Promise<unknown>;
  /** Failpoints, or a kill in place of each effect (see ./effects.ts) until it is done. */
  readonly points: readonly string[] | 'effects';
  /** What the host must look like after the kill and the next start. */
  readonly settles: 'as before' | 'as done' | 'either';
  /** What counts as done, where a kill leads elsewhere than the operation; default {@link act}. */
  readonly done?: (subject: string) => Promise<unknown>;
  /** After all the kills, with the operation done at last. */
  readonly verify?: (subject: string) => Promise<void>;
}

/** The places before and after each step of a plan; a new step is covered by being in the plan. */
export function pointsOf(kind: string, plan: Plan): readonly string[] {
  return stepsOf(plan).flatMap(({ name }) => [`${kind}.${name}.before`, `${kind}.${name}.after`]);
}

/** Of each VM of a matrix. */
export const size = { cpus: 1, memoryMiB: 256, egress: { outbound: false, allow: [] } };
const mark = '/workspace/mark';

/** What goes on in the background is a row of its own. */
export const quiet = { 'template.build': false, 'template.waiting': 0, 'engine.accel': 'tcg' };

/**
 * A data directory on which the process that runs VMs is killed with SIGKILL at every point of every operation and started
 * again. After that the whole host (rows, files with their rights, processes, taps, rules, control groups: `inventory`)
 * must look as it did before the operation, or as the operation leaves it: nothing between, and nothing besides.
 */
export class CrashSite implements AsyncDisposable {
  readonly home: string;
  #room: Room;
  readonly #kept = { snapshots: new Set<string>(), images: new Set<string>() };
  readonly #results: { readonly operation: string; readonly point: string; readonly outcome: string }[] = [];

  private constructor(home: string, room: Room) {
    this.home = home;
    this.#room = room;
  }

  static async create(): Promise<CrashSite> {
    const home = await mkdtemp('/tmp/berth-test-');
    return new CrashSite(home, await Room.open(home, quiet));
  }

  /** Prints the table, and takes everything away. */
  async [Symbol.asyncDispose](): Promise<void> {
    console.log(`\n${'operation'.padEnd(22)}${'killed at'.padEnd(28)}the host is`);
    for (const { operation, point, outcome } of this.#results)
      console.log(`${operation.padEnd(22)}${point.padEnd(28)}${outcome}`);
    for (const { id } of await this.call('list')) await this.call('remove', id);
    await this.#room.kill();
    await rm(this.home, { recursive: true, force: true });
  }

  readonly call: Room['call'] = (name, ...args) => this.#room.call(name, ...args);

  /**
   * Takes a snapshot of a VM with a file by which it is known. It is kept, as all that is there now. VMs are restored from
   * it, so that points which need a running VM cost no boot.
   */
  async keepMarked(): Promise<string> {
    const { id } = await this.call('create', size);
    await this.call('shell', id, `echo kept > ${mark}`);
    const snapshot = await this.call('snapshot', id);
    await this.call('remove', id);
    await this.keep();
    return snapshot.id;
  }

  /** That a VM of the marked snapshot runs, or can be started, with the file by which it is known. */
  async assertMarked(id: string): Promise<void> {
    const [vm] = (await this.call('list')).filter((each) => each.id === id);
    assert.ok(vm, 'there is no VM');
    if (vm.state !== 'running') await this.call('start', id);
    assert.equal(await this.call('shell', id, `cat ${mark}`), 'kept\n');
  }

  /** What is there now, apart from VMs, stays between operations. */
  async keep(): Promise<void> {
    for (const { id } of await this.call('snapshots')) this.#kept.snapshots.add(id);
    for (const { id } of await this.call('images')) this.#kept.images.add(id);
  }

  /** Kills the process, whatever it is doing, and opens another. */
  async restart(settings: Readonly<Record<string, unknown>> = {}): Promise<void> {
    await this.#room.kill();
    this.#room = await Room.open(this.home, { ...quiet, ...settings });
  }

  /** Has the process die in the middle of `act`, and opens the next; true when it was through before it came to that. */
  async killedAt(point: string, act: () => Promise<unknown>): Promise<boolean> {
    await this.call('dieAt', point);
    let survived = true;
    await act().catch((error: unknown) => {
      if (!(error instanceof RoomDied)) throw error;
      survived = false;
    });
    if (survived) {
      assert.match(point, /^effect (\d\d|[^1])/, `nothing came to ${point}`);
      await this.#room.kill();
    }
    await this.#next();
    return survived;
  }

  /** Opens a room that dies at a point of what it does by itself, and then the next. */
  async killedAtStart(point: string, settings: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#room.kill();
    const room = Room.doomed(this.home, { ...quiet, ...settings }, point);
    this.#room = room;
    await eventually(`the room comes to ${point}`, async () => room.hasEnded);
    await this.#next();
  }

  async assertIs(expected: readonly string[] | null, operation: string, point: string, outcome: string): Promise<void> {
    assert.deepEqual(await inventory(this.home), expected, `${operation}, killed at ${point}`);
    this.#results.push({ operation, point, outcome });
  }

  /** Removes everything but what is kept. */
  async clear(): Promise<void> {
    for (const { id } of await this.call('list')) await this.call('remove', id);
    const { images, snapshots } = this.#kept;
    const templates: string[] = [];
    for (const { id, role } of await this.call('snapshots')) {
      if (snapshots.has(id)) continue;
      if (role === 'template') templates.push(id);
      else await this.call('removeSnapshot', id);
    }
    if (templates.length > 0) {
      await this.call('forgetTemplates', templates);
      await this.restart();
    }
    const [first] = images;
    if (first !== undefined) await this.call('setDefaultImage', first);
    for (const { id } of await this.call('images')) if (!images.has(id)) await this.call('removeImage', id);
  }

  async #next(): Promise<void> {
    assert.equal(await this.#room.ended, 'SIGKILL', this.#room.output());
    this.#room = await Room.open(this.home, quiet);
  }

  /** Kills the operation at each of its points. */
  async test(name: string, operation: Operation): Promise<void> {
    const { act, points, settles, setUp = async () => '', done = act, verify } = operation;
    await this.clear();
    let subject = await setUp();
    const asBefore = await inventory(this.home);
    let asDone: readonly string[] | null = null;
    if (settles !== 'as before') {
      await done(subject);
      asDone = await inventory(this.home);
      await this.clear();
      subject = await setUp();
      assert.deepEqual(await inventory(this.home), asBefore, 'doing it and clearing up left something');
    }
    let isThrough = false;
    for (let count = 0; !isThrough && (points === 'effects' || count < points.length); count++) {
      const point = points === 'effects' ? `effect ${count + 1}` : points[count]!;
      isThrough = await this.killedAt(point, () => act(subject));
      const isDone =
        isThrough || settles === 'as done' || (settles === 'either' && isSame(await inventory(this.home), asDone));
      await this.assertIs(isDone ? asDone : asBefore, name, point, isDone ? 'as if it were done' : 'as before');
      if (isThrough || !isDone) continue;
      await this.clear();
      subject = await setUp();
    }
    if (!isThrough) await act(subject);
    await verify?.(subject);
  }
}

function isSame(one: readonly string[], other: readonly string[] | null): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
