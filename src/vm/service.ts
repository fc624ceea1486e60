import { Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import { exists } from '../common/files.ts';
import type { EngineExit } from '../engine/engine.ts';
import type { GuestClient } from '../guest/guest.ts';
import type { Operation } from '../store/vm-store.ts';
import type { VmService } from './api.ts';
import type { VmDependencies } from './context.ts';
import { Creation } from './creation.ts';
import { checkSpace, maySpaceBeUsed } from './disk-space.ts';
import { growDisk } from './grow-disk.ts';
import { Haste } from './haste.ts';
import { withCurrentLeases } from './leases.ts';
import { LiveVms } from './live.ts';
import { type LogTail, readLogTail } from './log-tail.ts';
import type { CreateVm, Quotas, Snapshot, StopOptions, TemplateShape, Vm, VmEvent, VmState, VmUsage } from './model.ts';
import { observedRecord } from './observed.ts';
import { journalEntry, notStarted, notUndone, Operations, runningNow, stoppedNow } from './operations.ts';
import { Parking } from './parking.ts';
import { startPlanOf, stopPlan } from './plans.ts';
import { checkSize, checkTotals } from './quotas.ts';
import { Reconciler } from './reconcile.ts';
import { Records } from './records.ts';
import { recover } from './recover.ts';
import { buildDetail } from './reservation.ts';
import { RestartLimiter } from './restart-limiter.ts';
import { Snapshots } from './snapshots.ts';
import { vmUsage } from './usage.ts';

/** What a record says of a VM that ended by itself. */
const exitReasons: Readonly<Record<EngineExit['reason'], string>> = {
  shutdown: 'powered off by its guest',
  reset: 'its guest restarts again and again',
  crashed: 'its process ended',
};

/** The one door through which VMs are changed: validates, reserves, journals, runs the steps. */
export class Vms implements VmService {
  readonly #deps: VmDependencies;
  readonly #records: Records;
  readonly #parking: Parking;
  readonly #live: LiveVms;
  readonly #operations: Operations;
  readonly #snapshots: Snapshots;
  readonly #creation: Creation;
  readonly #reconciler: Reconciler;
  /** Operations on one VM, one after another. */
  readonly #serial = new Serial<string>();
  readonly #reservations = new Serial<'reserve'>();
  readonly #restarts = new RestartLimiter();
  readonly #haste = new Haste();
  #closing = false;

  private constructor(deps: VmDependencies) {
    this.#deps = deps;
    this.#records = new Records(deps.log);
    this.#parking = new Parking({
      deps,
      records: this.#records,
      guestOf: (id) => this.#live.get(id)?.guest,
      exclusive: (id, task) => this.#exclusive(id, task),
    });
    this.#live = new LiveVms({
      ...deps,
      parking: this.#parking,
      onExit: (exit) => this.#onExit(exit),
      onChange: (id) => this.#reconciler.notice(id),
    });
    this.#operations = new Operations(deps, this.#live, this.#records);
    this.#snapshots = new Snapshots(this.#operations);
    this.#creation = new Creation(this.#operations, this.#snapshots, this.#serial, this.#reservations);
    this.#reconciler = new Reconciler({
      operations: this.#operations,
      serial: this.#serial,
      parking: this.#parking,
      onLost: async (vm) => {
        if (!this.#creation.lost(vm.id)) await this.#stop(vm, { force: true }, exitReasons.crashed);
      },
    });
  }

  /**
   * Reads the store, finishes or undoes what a previous daemon left half-done, adopts the VMs that run and sweeps what
   * belongs to none.
   */
  static async open(deps: VmDependencies): Promise<Vms> {
    const vms = new Vms(deps);
    await vms.#snapshots.load(await deps.snapshots.list());
    await recover(
      vms.#operations,
      vms.#serial,
      vms.#parking,
      new Set(vms.#snapshots.all().map((snapshot) => snapshot.id)),
    );
    vms.#reconciler.start();
    vms.#creation.resume();
    return vms;
  }

  get quotas(): Quotas {
    return this.#deps.settings.quotas;
  }

  get revision(): number {
    return this.#records.revision;
  }

  list(): readonly Vm[] {
    return this.#records.visible();
  }

  get(id: string): Vm {
    const vm = this.#records.get(id);
    if (vm.hidden) throw new BerthError('vm_not_found', { id });
    return vm;
  }

  listOf(tenant: string): readonly Vm[] {
    return this.#records.listOf(tenant);
  }

  getOf(id: string, tenant: string): Vm {
    return this.#records.getOf(id, tenant);
  }

  onEvent(listener: (event: VmEvent) => void): () => void {
    return this.#records.subscribe(listener);
  }

  async create(request: CreateVm): Promise<Vm> {
    this.#refuseWhileClosing();
    return this.#creation.create(request);
  }

  async fork(id: string, count: number): Promise<readonly Vm[]> {
    this.#refuseWhileClosing();
    return this.#creation.fork(count, (task) =>
      this.#exclusive(id, async () => task(this.#expect(id, ['running'], 'RUNNING to fork'))),
    );
  }

  /** Makes a template of this combination, or finds that there is one: later VMs of it start in no time. */
  async warm(shape: TemplateShape): Promise<void> {
    this.#refuseWhileClosing();
    await this.#creation.templates.warm(shape);
  }

  start(id: string): Promise<Vm> {
    return this.#exclusive(id, async () => {
      const vm = this.#expect(id, ['created', 'stopped'], 'STOPPED to start');
      this.#restarts.forget(id);
      return this.#start(vm);
    });
  }

  stop(id: string, options: StopOptions = {}): Promise<Vm> {
    if (options.force) return this.#haste.during(id, () => this.#forceStop(id));
    return this.#exclusive(id, async () => {
      const vm = this.#expect(id, ['running', 'paused'], 'RUNNING to stop');
      return this.#haste.grace(id, (hurry) => this.#stop(vm, options, null, hurry));
    });
  }

  /** A stop under way, which ends the sooner for this one, does what is asked here as well. */
  #forceStop(id: string): Promise<Vm> {
    const before = this.#records.find(id)?.state;
    const wasUp = before === 'running' || before === 'paused' || before === 'stopping';
    return this.#exclusive(id, async () => {
      const vm = this.get(id);
      if (wasUp && vm.state === 'stopped') return vm;
      return this.#stop(this.#expect(id, ['running', 'paused'], 'RUNNING to stop'), { force: true }, null);
    });
  }

  reboot(id: string, options: StopOptions = {}): Promise<Vm> {
    return this.#exclusive(id, async () => {
      const vm = this.#expect(id, ['running', 'paused'], 'RUNNING to reboot');
      return this.#start(await this.#haste.grace(id, (hurry) => this.#stop(vm, options, null, hurry)));
    });
  }

  pause(id: string): Promise<Vm> {
    return this.#exclusive(id, async () => {
      const vm = this.#expect(id, ['running'], 'RUNNING to pause');
      // What its user has paused goes on when its user says so.
      await this.#parking.wake(id);
      await this.#deps.engine.pause(id, this.#deps.layout.run(id));
      const paused = await this.#operations.save({ ...vm, state: 'paused' });
      this.#records.emit('vm.paused', vm);
      return paused;
    });
  }

  resume(id: string): Promise<Vm> {
    return this.#exclusive(id, async () => {
      const vm = this.#expect(id, ['paused'], 'PAUSED to resume');
      const { engine, layout, settings } = this.#deps;
      if (this.#live.get(id)?.isStalled && !(await maySpaceBeUsed(layout.home, settings.diskReserveMiB)))
        throw new BerthError('host_disk_full');
      await engine.resume(id, layout.run(id));
      this.#live.setStalled(id, false);
      const resumed = await this.#operations.save({ ...vm, state: 'running', reason: null });
      this.#records.emit('vm.resumed', vm);
      return resumed;
    });
  }

  park(id: string): Promise<void> {
    return this.#parking.park(id);
  }

  resize(
    id: string,
    change: { readonly cpus?: number; readonly memoryMiB?: number; readonly diskMiB?: number },
  ): Promise<Vm> {
    return this.#exclusive(id, async () => {
      const vm = this.#expect(id, ['created', 'stopped'], 'STOPPED to resize');
      const wanted: Vm = { ...vm, ...change };
      checkSize(wanted, this.quotas);
      if (wanted.diskMiB < vm.diskMiB) throw new BerthError('invalid_argument', { reason: 'a disk can only grow' });
      await this.#reserve(wanted, false, journalEntry(id, 'resize'));
      try {
        await growDisk(wanted, this.#deps.layout);
      } catch (error) {
        await this.#operations.finish(vm, {});
        throw error;
      }
      const resized = await this.#operations.finish(wanted, {});
      this.#records.emit('vm.resized', vm);
      return resized;
    });
  }

  remove(id: string): Promise<void> {
    const erase = async () => {
      const vm = this.#records.get(id);
      await this.#operations.erase(id);
      this.#restarts.forget(id);
      this.#records.emit('vm.removed', vm);
    };
    return this.#haste.during(id, () => this.#exclusive(id, erase));
  }

  usage(id: string): Promise<VmUsage | null> {
    return vmUsage(this.get(id), this.#deps);
  }

  controlSocket(id: string): string {
    const { engine, layout } = this.#deps;
    return engine.controlSocket(layout.run(this.get(id).id));
  }

  guest(id: string): GuestClient {
    const live = this.#live.get(id);
    if (live?.isStalled) throw new BerthError('host_disk_full');
    this.#expect(id, ['running'], 'RUNNING');
    if (!live || this.#records.get(id).guestChannel === 'optional') throw new BerthError('guest_unavailable');
    return live.guest;
  }

  async log(id: string, kind: 'console' | 'engine', tail: number): Promise<LogTail> {
    const { engine, layout } = this.#deps;
    const dir = layout.run(this.get(id).id);
    return readLogTail(kind === 'console' ? engine.consoleLog(dir) : engine.engineLog(dir), tail);
  }

  snapshot(id: string): Promise<Snapshot> {
    return this.#exclusive(id, async () =>
      this.#snapshots.take(this.#expect(id, ['running'], 'RUNNING to snapshot'), { role: 'user' }),
    );
  }

  snapshots(): readonly Snapshot[] {
    return this.#snapshots.list();
  }

  getSnapshot(id: string): Snapshot {
    return this.#snapshots.get(id);
  }

  async removeSnapshot(id: string): Promise<void> {
    return this.#snapshots.remove(this.#snapshots.get(id));
  }

  /**
   * Breaks off what is under way with guests, for a daemon that has to end: commands fail as interrupted, boots are undone,
   * guests that were asked to end have no more time. Other VMs keep running.
   */
  interrupt(): void {
    this.#closing = true;
    this.#haste.everywhere();
    this.#live.close();
  }

  /** Refuses new changes and waits for those in flight; VMs keep running. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#haste.everywhere();
    await this.#creation.close();
    await this.#reconciler.close();
    await this.#reservations.idle();
    await this.#serial.idle();
    this.#live.close();
    await this.#parking.close();
  }

  /** Refuses new changes and takes every VM down, those that are just starting too. */
  async stopAll(): Promise<void> {
    this.#closing = true;
    this.#haste.everywhere();
    await this.#creation.close();
    await this.#reservations.idle();
    const stopActive = async (id: string) => {
      const vm = this.#records.find(id);
      if (vm?.state === 'running' || vm?.state === 'paused') await this.#stop(vm, {}, null);
    };
    // Copies of a fork that is under way are hidden, and run all the same.
    const ids = this.#records.list().map(({ id }) => id);
    const results = await Promise.allSettled(ids.map((id) => this.#serial.run(id, () => stopActive(id))));
    for (const result of results)
      if (result.status === 'rejected') this.#deps.log.error({ err: result.reason }, 'a VM could not be stopped');
  }

  async #start(vm: Vm): Promise<Vm> {
    const { layout, settings } = this.#deps;
    const isNew = vm.state === 'created' && !(await exists(layout.manifest(vm.id)));
    if (isNew) await checkSpace(layout.home, settings.diskReserveMiB);
    const operation = journalEntry(vm.id, 'start', isNew ? buildDetail(null) : {});
    const starting = await this.#reserve({ ...vm, state: 'starting', reason: null }, true, operation);
    try {
      await this.#operations.run(startPlanOf(operation), starting, operation);
    } catch (error) {
      const outcome = () => this.#operations.finish(starting, notStarted(operation, 'the VM did not start'));
      throw await this.#operations.fail(starting, error, outcome);
    }
    const started = await this.#operations.finish(starting, runningNow('boot', null));
    this.#records.emit('vm.started', vm);
    return started;
  }

  async #stop(vm: Vm, options: StopOptions, reason: string | null, hurry?: AbortSignal): Promise<Vm> {
    const operation = journalEntry(vm.id, 'stop', { force: options.force ? 1 : 0, graceMs: options.graceMs ?? null });
    const stopping = await this.#operations.begin({ ...vm, state: 'stopping' }, operation);
    try {
      await this.#operations.run(stopPlan, stopping, operation, hurry);
    } catch (error) {
      await this.#afterFailedStop(stopping, reason);
      throw error;
    }
    const stopped = await this.#operations.finish(stopping, stoppedNow(reason));
    this.#records.emit('vm.stopped', vm);
    return stopped;
  }

  /** Writes what a VM is that could not be stopped, by looking at it. */
  async #afterFailedStop(vm: Vm, reason: string | null): Promise<void> {
    try {
      const { state } = await this.#deps.engine.observe(vm.id, this.#deps.layout.run(vm.id));
      if (state !== 'absent' && !this.#live.get(vm.id)) await this.#live.adopt(vm.id);
      await this.#operations.finish(vm, state === 'absent' ? stoppedNow(reason) : observedRecord(vm, state));
    } catch (error) {
      this.#deps.log.error({ err: error, vm: vm.id }, 'a VM that could not be stopped does not answer');
      await this.#operations.save({ ...vm, ...notUndone });
    }
  }

  /** Writes the intent to let a VM use more, one VM at a time: two must not both be given what is left. */
  #reserve(vm: Vm, active: boolean, operation: Operation): Promise<Vm> {
    return this.#reservations.run('reserve', async () => {
      const { ledger } = this.#records;
      const except = [this.#records.get(vm.id), ...this.#creation.uncounted()];
      checkTotals(ledger, vm, this.quotas, { active, tenant: vm.tenant, except });
      const leased = active ? withCurrentLeases(vm, ledger, this.#deps.network.plan) : vm;
      return this.#operations.begin(leased, operation);
    });
  }

  /** A VM's process ended without our asking. Waits its turn: an operation in flight may be what ended it. */
  #onExit(exit: EngineExit): void {
    const cleanUp = async () => {
      if (this.#creation.lost(exit.id)) return;
      const vm = this.#records.find(exit.id);
      if (!vm || (vm.state !== 'running' && vm.state !== 'paused') || this.#live.get(exit.id)) return;
      const restart = exit.reason === 'reset' && this.#restarts.mayRestart(vm.id, vm.startedAt);
      const stopped = await this.#stop(vm, { force: true }, restart ? null : exitReasons[exit.reason]);
      if (restart && !this.#closing) await this.#start(stopped);
    };
    this.#serial
      .run(exit.id, cleanUp)
      .catch((error) => this.#deps.log.error({ err: error, vm: exit.id }, 'a VM that ended could not be cleaned up'));
  }

  async #exclusive<T>(id: string, task: () => Promise<T>): Promise<T> {
    this.#refuseWhileClosing();
    this.get(id);
    return this.#serial.run(id, task);
  }

  #expect(id: string, states: readonly VmState[], expected: string): Vm {
    const vm = this.get(id);
    if (!states.includes(vm.state))
      throw new BerthError('wrong_state', { expected, actual: vm.state.toUpperCase(), state: vm.state });
    return vm;
  }

  #refuseWhileClosing(): void {
    if (this.#closing) throw new BerthError('shutting_down');
  }
}
