import { forEachLimited, type Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import { tellTime } from './clock.ts';
import { maySpaceBeUsed } from './disk-space.ts';
import type { Vm } from './model.ts';
import { observedRecord, type Seen } from './observed.ts';
import type { Operations } from './operations.ts';
import type { Parking } from './parking.ts';
import { networksOf } from './steps/network.ts';

/** Milliseconds between looks at the disk while VMs are held for lack of space. */
const spaceCheckMs = 5000;

/** VMs that are looked at at a time: a process that hangs takes seconds to be known. */
const concurrency = 4;

export interface ReconcilerOptions {
  readonly operations: Operations;
  /** Operations on one VM. A record is corrected in its turn; looking does not wait for one, nor hold one up. */
  readonly serial: Serial<string>;
  readonly parking: Pick<Parking, 'wake'>;
  /** Cleans up after a VM whose process is gone and whose end nobody told. */
  readonly onLost: (vm: Vm) => Promise<unknown>;
  /** Does what could not be done before. Never rejects. */
  readonly tidy: () => Promise<void>;
}

/**
 * Keeps the records true while the daemon runs, whatever others do to VMs and to the host: it looks at each VM that should
 * have a process, at intervals and when the engine says that something changed, and lets VMs go on that were held because
 * the disk was full. VMs with an operation under way are left to it.
 */
export class Reconciler {
  readonly #operations: Operations;
  readonly #serial: Serial<string>;
  readonly #parking: Pick<Parking, 'wake'>;
  readonly #onLost: (vm: Vm) => Promise<unknown>;
  readonly #tidy: () => Promise<void>;
  /** Those that wait for their turn to be corrected. */
  readonly #noticed = new Set<string>();
  /** Those that had no process the last time: how it ended is told by the engine, unless it says nothing for a round. */
  #lost: ReadonlySet<string> = new Set();
  #unplugged: ReadonlySet<string> = new Set();
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> = Promise.resolve();
  #tidying: Promise<void> | null = null;
  #nextLook = 0;
  #isClosed = false;

  constructor({ operations, serial, parking, onLost, tidy }: ReconcilerOptions) {
    this.#operations = operations;
    this.#serial = serial;
    this.#parking = parking;
    this.#onLost = onLost;
    this.#tidy = tidy;
  }

  /** Begins; the first round is one interval away. */
  start(): void {
    this.#nextLook = performance.now() + this.#intervalMs;
    this.#schedule();
  }

  /** Resolves when nothing is looked at any more. Corrections that wait for their turn do nothing then. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#round;
    await this.#tidying;
  }

  /** Something may have changed: the VM is looked at when its turn comes. */
  notice(id: string): void {
    if (this.#isClosed || this.#noticed.has(id)) return;
    this.#noticed.add(id);
    this.#inTurn(id, async () => {
      this.#noticed.delete(id);
      await this.#correct(id);
    });
  }

  get #intervalMs(): number {
    return this.#operations.deps.settings.reconcileIntervalMs;
  }

  #schedule(): void {
    const untilLook = Math.max(0, this.#nextLook - performance.now());
    const wait = this.#stalled().length > 0 ? Math.min(untilLook, spaceCheckMs) : untilLook;
    this.#timer = setTimeout(() => {
      this.#round = this.#run()
        .catch((error) => this.#operations.deps.log.error({ err: error }, 'the VMs could not be looked at'))
        .then(() => {
          if (!this.#isClosed) this.#schedule();
        });
    }, wait);
    this.#timer.unref();
  }

  async #run(): Promise<void> {
    await this.#releaseStalled();
    if (performance.now() < this.#nextLook) return;
    this.#nextLook = performance.now() + this.#intervalMs;
    this.#beginToTidy();
    const active = this.#operations.records.list().filter(isActive);
    if (active.length === 0) return;
    await this.#verifyNetwork(active);
    const lost = new Set<string>();
    await forEachLimited(active, concurrency, async (vm) => {
      if (this.#isClosed || this.#serial.isBusy(vm.id)) return;
      const seen = await this.#look(vm);
      if (seen === 'absent') lost.add(vm.id);
      if (seen === 'absent' ? this.#lost.has(vm.id) : this.#differs(vm, seen)) this.notice(vm.id);
    });
    this.#lost = lost;
  }

  /** Beside the round: what hangs, as the end of a process may, holds up nothing but the next tidying. */
  #beginToTidy(): void {
    this.#tidying ??= this.#tidy().finally(() => {
      this.#tidying = null;
    });
  }

  async #verifyNetwork(active: readonly Vm[]): Promise<void> {
    const { network, log } = this.#operations.deps;
    try {
      this.#unplugged = new Set(await network.verify(active.flatMap(networksOf)));
    } catch (error) {
      log.error({ err: error }, 'the network of the VMs could not be verified');
    }
  }

  /** What a VM's process does; never throws, so that one VM does not hide the others. */
  async #look(vm: Vm): Promise<Seen | 'absent'> {
    const { engine, layout, log } = this.#operations.deps;
    try {
      return (await engine.observe(vm.id, layout.run(vm.id))).state;
    } catch (error) {
      if (!(error instanceof BerthError && error.code === 'deadline_exceeded'))
        log.error({ err: error, vm: vm.id }, 'a VM could not be observed');
      return 'hung';
    }
  }

  #differs(vm: Vm, seen: Seen): boolean {
    const { state, reason } = observedRecord(vm, seen, this.#unplugged.has(vm.id));
    return state !== vm.state || reason !== vm.reason || isWoken(vm, seen);
  }

  /** Makes the record what is seen. Only in the VM's turn. */
  async #correct(id: string): Promise<void> {
    const { records, live, deps } = this.#operations;
    const vm = records.find(id);
    if (this.#isClosed || !vm || !isActive(vm)) return;
    const seen = await this.#look(vm);
    if (seen === 'absent') {
      if (this.#lost.has(id)) await this.#onLost(vm);
      return;
    }
    if (seen !== 'stalled') live.setStalled(id, false);
    if (isWoken(vm, seen)) await this.#parking.wake(id);
    const { state, reason } = observedRecord(vm, seen, this.#unplugged.has(id));
    if (state !== vm.state || reason !== vm.reason) {
      deps.log.warn({ vm: id, state, reason }, 'a VM is not as it was left');
      await this.#operations.observed({ ...vm, state, reason });
      if (state !== vm.state) records.emit(state === 'paused' ? 'vm.paused' : 'vm.resumed', vm);
    }
    // Whoever's call ends for that finds a record which says why.
    if (seen === 'stalled') live.setStalled(id, true);
  }

  async #releaseStalled(): Promise<void> {
    const { live } = this.#operations;
    const { engine, layout, log, settings } = this.#operations.deps;
    const stalled = this.#stalled();
    if (stalled.length === 0 || !(await maySpaceBeUsed(layout.home, settings.diskReserveMiB))) return;
    for (const { id } of stalled) {
      this.#inTurn(id, async () => {
        const vm = this.#operations.records.find(id);
        if (this.#isClosed || !vm || !isActive(vm)) return;
        const wasStalled = (await this.#look(vm)) === 'stalled';
        if (wasStalled) await engine.resume(id, layout.run(id));
        await this.#correct(id);
        if (wasStalled) await tellTime(vm, live.get(id)?.guest, log);
      });
    }
  }

  #stalled(): readonly Vm[] {
    const { records, live } = this.#operations;
    return records.list().filter(({ id }) => live.get(id)?.isStalled);
  }

  #inTurn(id: string, task: () => Promise<void>): void {
    this.#serial
      .run(id, task)
      .catch((error) => this.#operations.deps.log.error({ err: error, vm: id }, 'a record could not be corrected'));
  }
}

/** Somebody has let it go on, who perhaps knew nothing of its being parked. */
function isWoken(vm: Vm, seen: Seen): boolean {
  return vm.parked && seen === 'running';
}

function isActive({ state }: Vm): boolean {
  return state === 'running' || state === 'paused';
}
