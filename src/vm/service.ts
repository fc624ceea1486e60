import { Pending, Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import type { GuestClient } from '../guest/guest.ts';
import type { VmService } from './api.ts';
import type { VmDependencies } from './context.ts';
import { Creation } from './creation.ts';
import { maySpaceBeUsed } from './disk-space.ts';
import { growDisk } from './grow-disk.ts';
import { Haste } from './haste.ts';
import { LiveVms } from './live.ts';
import { type LogTail, readLogTail } from './log-tail.ts';
import type { CreateVm, Quotas, Snapshot, StopOptions, TemplateShape, Vm, VmEvent, VmState, VmUsage } from './model.ts';
import { journalEntry, Operations } from './operations.ts';
import { Parking } from './parking.ts';
import { Power } from './power.ts';
import { checkSize } from './quotas.ts';
import { Reconciler } from './reconcile.ts';
import { Records } from './records.ts';
import { recover } from './recover.ts';
import { Snapshots } from './snapshots.ts';
import { vmUsage } from './usage.ts';

/** The one door through which VMs are changed: validates, reserves, journals, runs the steps. */
export class Vms implements VmService {
  readonly #deps: VmDependencies;
  readonly #records: Records;
  readonly #parking: Parking;
  readonly #live: LiveVms;
  readonly #operations: Operations;
  readonly #snapshots: Snapshots;
  readonly #creation: Creation;
  readonly #power: Power;
  readonly #reconciler: Reconciler;
  /** Operations on one VM, one after another. */
  readonly #serial = new Serial<string>();
  readonly #reservations = new Pending();
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
      onExit: (exit) => this.#power.ended(exit),
      onChange: (id) => this.#reconciler.notice(id),
    });
    this.#operations = new Operations(deps, this.#live, this.#records);
    this.#snapshots = new Snapshots(this.#operations);
    this.#creation = new Creation(this.#operations, this.#snapshots, this.#serial, this.#reservations);
    this.#power = new Power(this.#operations, this.#creation, this.#serial, this.#reservations);
    this.#reconciler = new Reconciler({
      operations: this.#operations,
      serial: this.#serial,
      parking: this.#parking,
      onLost: (vm) => this.#power.lost(vm),
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
      this.#power.forget(id);
      return this.#power.start(vm);
    });
  }

  stop(id: string, options: StopOptions = {}): Promise<Vm> {
    if (options.force) return this.#haste.during(id, () => this.#forceStop(id));
    return this.#exclusive(id, async () => {
      const vm = this.#expect(id, ['running', 'paused'], 'RUNNING to stop');
      return this.#haste.grace(id, (hurry) => this.#power.stop(vm, options, null, hurry));
    });
  }

  /** A stop under way, which ends the sooner for this one, does what is asked here as well. */
  #forceStop(id: string): Promise<Vm> {
    const before = this.#records.find(id)?.state;
    const wasUp = before === 'running' || before === 'paused' || before === 'stopping';
    return this.#exclusive(id, async () => {
      const vm = this.get(id);
      if (wasUp && vm.state === 'stopped') return vm;
      return this.#power.stop(this.#expect(id, ['running', 'paused'], 'RUNNING to stop'), { force: true }, null);
    });
  }

  reboot(id: string, options: StopOptions = {}): Promise<Vm> {
    return this.#exclusive(id, async () => {
      const vm = this.#expect(id, ['running', 'paused'], 'RUNNING to reboot');
      return this.#power.start(await this.#haste.grace(id, (hurry) => this.#power.stop(vm, options, null, hurry)));
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
      await this.#power.reserve(wanted, false, journalEntry(id, 'resize'));
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
      this.#power.forget(id);
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
    this.#beginToClose();
    this.#live.close();
  }

  /** Refuses new changes and waits for those in flight; VMs keep running. */
  async close(): Promise<void> {
    this.#beginToClose();
    await this.#creation.close();
    await this.#reconciler.close();
    await this.#reservations.idle();
    await this.#serial.idle();
    this.#live.close();
    await this.#parking.close();
  }

  /** Refuses new changes and takes every VM down, those that are just starting too. */
  async stopAll(): Promise<void> {
    this.#beginToClose();
    await this.#creation.close();
    await this.#reservations.idle();
    const stopActive = async (id: string) => {
      const vm = this.#records.find(id);
      if (vm?.state === 'running' || vm?.state === 'paused') await this.#power.stop(vm, {}, null);
    };
    // Copies of a fork that is under way are hidden, and run all the same.
    const ids = this.#records.list().map(({ id }) => id);
    const results = await Promise.allSettled(ids.map((id) => this.#serial.run(id, () => stopActive(id))));
    for (const result of results)
      if (result.status === 'rejected') this.#deps.log.error({ err: result.reason }, 'a VM could not be stopped');
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

  #beginToClose(): void {
    this.#closing = true;
    this.#power.close();
    this.#haste.everywhere();
  }

  #refuseWhileClosing(): void {
    if (this.#closing) throw new BerthError('shutting_down');
  }
}
