import { Pending, Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import type { GuestClient } from '../guest/guest.ts';
import type { StopOptions, VmService } from './api.ts';
import { Changes } from './changes.ts';
import type { VmDependencies } from './context.ts';
import { Creation } from './creation.ts';
import { LiveVms } from './live.ts';
import { type LogTail, readLogTail } from './log-tail.ts';
import { Merging } from './merging.ts';
import type { Snapshot, TemplateShape, Vm, VmEvent } from './model.ts';
import { Operations } from './operations.ts';
import { Parking } from './parking.ts';
import { Power } from './power.ts';
import type { Quotas } from './quotas.ts';
import { Reconciler } from './reconcile.ts';
import { Records } from './records.ts';
import { recover } from './recover.ts';
import type { CreateVm } from './request.ts';
import { Snapshots } from './snapshots.ts';
import { Turns } from './turns.ts';
import { type VmUsage, vmUsage } from './usage.ts';

/** The one door through which VMs are changed: validates, reserves, journals, runs the steps. */
export class Vms implements VmService {
  readonly #deps: VmDependencies;
  readonly #records: Records;
  readonly #turns: Turns;
  readonly #parking: Parking;
  readonly #live: LiveVms;
  readonly #operations: Operations;
  readonly #merging: Merging;
  readonly #snapshots: Snapshots;
  readonly #creation: Creation;
  readonly #power: Power;
  readonly #changes: Changes;
  readonly #reconciler: Reconciler;
  /** Operations on one VM, one after another. */
  readonly #serial = new Serial<string>();
  readonly #reservations = new Pending();

  private constructor(deps: VmDependencies) {
    this.#deps = deps;
    this.#records = new Records(deps.log);
    this.#turns = new Turns(this.#records, this.#serial);
    this.#parking = new Parking({
      deps,
      records: this.#records,
      guestOf: (id) => this.#live.get(id)?.guest,
      exclusive: (id, task) => this.#turns.run(id, task),
    });
    this.#live = new LiveVms({
      ...deps,
      parking: this.#parking,
      onExit: (exit) => this.#power.ended(exit),
      onChange: (id) => this.#reconciler.notice(id),
      onAdopt: (id) => this.#merging.want(id),
    });
    this.#operations = new Operations(deps, this.#live, this.#records);
    this.#merging = new Merging(this.#operations, this.#serial);
    this.#snapshots = new Snapshots(this.#operations, this.#merging);
    this.#creation = new Creation(this.#operations, this.#snapshots, this.#serial, this.#reservations);
    this.#power = new Power(this.#operations, this.#creation, this.#serial, this.#reservations);
    this.#changes = new Changes(this.#operations, this.#turns, this.#power, this.#parking);
    this.#reconciler = new Reconciler({
      operations: this.#operations,
      serial: this.#serial,
      parking: this.#parking,
      onLost: (vm) => this.#power.lost(vm),
      tidy: () => this.#creation.tidy(),
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
    return this.#turns.find(id);
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
    this.#turns.refuseWhenClosed();
    return this.#creation.create(request);
  }

  async fork(id: string, count: number): Promise<readonly Vm[]> {
    this.#turns.refuseWhenClosed();
    return this.#creation.fork(count, (task) =>
      this.#turns.run(id, async () => task(this.#turns.expect(id, ['running'], 'RUNNING to fork'))),
    );
  }

  /** Makes a template of this combination, or finds that there is one: later VMs of it start in no time. */
  async warm(shape: TemplateShape): Promise<void> {
    this.#turns.refuseWhenClosed();
    await this.#creation.templates.warm(shape);
  }

  start(id: string): Promise<Vm> {
    return this.#changes.start(id);
  }

  stop(id: string, options: StopOptions = {}): Promise<Vm> {
    return this.#changes.stop(id, options);
  }

  reboot(id: string, options: StopOptions = {}): Promise<Vm> {
    return this.#changes.reboot(id, options);
  }

  pause(id: string): Promise<Vm> {
    return this.#changes.pause(id);
  }

  resume(id: string): Promise<Vm> {
    return this.#changes.resume(id);
  }

  resize(
    id: string,
    change: { readonly cpus?: number; readonly memoryMiB?: number; readonly diskMiB?: number },
  ): Promise<Vm> {
    return this.#changes.resize(id, change);
  }

  remove(id: string): Promise<void> {
    return this.#changes.remove(id);
  }

  park(id: string): Promise<void> {
    return this.#parking.park(id);
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
    this.#turns.expect(id, ['running'], 'RUNNING');
    if (!live || this.#records.get(id).guestChannel === 'optional') throw new BerthError('guest_unavailable');
    return live.guest;
  }

  async log(id: string, kind: 'console' | 'engine', tail: number): Promise<LogTail> {
    const { engine, layout } = this.#deps;
    const dir = layout.run(this.get(id).id);
    return readLogTail(kind === 'console' ? engine.consoleLog(dir) : engine.engineLog(dir), tail);
  }

  snapshot(id: string): Promise<Snapshot> {
    return this.#turns.run(id, async () =>
      this.#snapshots.take(this.#turns.expect(id, ['running'], 'RUNNING to snapshot'), { role: 'user' }),
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

  #beginToClose(): void {
    this.#turns.close();
    this.#power.close();
    this.#merging.close();
    this.#changes.hurry();
  }
}
