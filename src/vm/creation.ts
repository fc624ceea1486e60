import type { Pending, Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import { failpoint } from '../common/failpoint.ts';
import type { Egress } from '../net/network.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import type { Operation } from '../store/vm-store.ts';
import type { TemplateShape, Vm } from './model.ts';
import { type Operations, runningNow } from './operations.ts';
import { type Origin, originOf } from './origin.ts';
import { bootPlan, clonePlan, createPlan } from './plans.ts';
import { checkTotals } from './quotas.ts';
import { Remains } from './remains.ts';
import type { CreateNic, CreateVm } from './request.ts';
import { type PreparedVm, prepareVm, reserveVm } from './reservation.ts';
import type { Snapshots } from './snapshots.ts';
import { Spares } from './spares.ts';
import { Templates } from './templates.ts';

/** Most copies one call may ask for. */
const maxForks = 64;

/** Where a new VM comes from is decided here: a spare, a template, a snapshot, or a boot of its image. */
export class Creation {
  readonly #operations: Operations;
  readonly #snapshots: Snapshots;
  /** Operations on one VM, one after another. */
  readonly #serial: Serial<string>;
  readonly #reservations: Pending;
  readonly #remains: Remains;
  readonly templates: Templates;
  readonly #spares: Spares;
  /** What was asked for last, of those that templates are for. */
  #latest: CreateVm | null = null;
  #closing = false;

  constructor(operations: Operations, snapshots: Snapshots, serial: Serial<string>, reservations: Pending) {
    this.#operations = operations;
    this.#snapshots = snapshots;
    this.#serial = serial;
    this.#reservations = reservations;
    this.#remains = new Remains(operations, serial);
    this.templates = new Templates(operations, snapshots, {
      create: (id, shape) => this.#make({ id, ...hiddenRequest(shape) }, null),
      snapshot: (vm, templateKey) => serial.run(vm.id, () => snapshots.take(vm, { role: 'template', templateKey })),
      remove: (id) => this.#remains.erase(id),
    });
    this.#spares = new Spares(operations, snapshots, serial, reservations, this.#remains, () => this.#uncounted);
  }

  /** Takes up in the background what an earlier daemon left; called once. */
  resume(): void {
    const { log } = this.#operations.deps;
    this.templates.resume().then(
      (template) => template && this.#spares.refill(template, noEgress),
      (error: unknown) => log.warn({ err: error }, 'the templates could not be taken up'),
    );
  }

  async create(request: CreateVm): Promise<Vm> {
    const snapshot = this.#snapshots.forCreate(request);
    if (snapshot) return this.#make(request, originOf(snapshot, request));
    this.#latest = request;
    const template = await this.templates.find(request);
    const clone = template === null ? null : await this.#fromTemplate(request, template);
    if (clone !== null) return clone;
    const vm = await this.#make(request, null);
    void this.templates.want(request).then((template) => template && this.#standBy(template));
    return vm;
  }

  /**
   * What could not be done when its time had come, as because a host tool failed: hidden VMs are removed, and templates of
   * images that are gone. Never rejects.
   */
  async tidy(): Promise<void> {
    await this.#remains.retry();
    try {
      for (const { id } of await this.templates.discardOrphans()) await this.#spares.drop(id);
    } catch (error) {
      this.#operations.deps.log.error({ err: error }, 'templates of images that are gone could not be removed');
    }
  }

  /** A template was built behind a boot: the next VM is expected to be of it, unless another one was asked for since then. */
  async #standBy(template: StoredSnapshot): Promise<void> {
    const latest = this.#latest;
    if (latest === null) return;
    try {
      if ((await this.templates.find(latest))?.id === template.id) this.#spares.refill(template, latest.egress);
    } catch (error) {
      this.#operations.deps.log.info({ err: error, template: template.id }, 'no spare is made of a new template');
    }
  }

  /**
   * Makes `count` copies of a running VM as it is at one instant: all of them, or none. They have the VM's size, tenant,
   * labels and egress. `whileRunning` calls its task with the VM, whose other operations it holds back meanwhile.
   */
  async fork(count: number, whileRunning: <T>(task: (vm: Vm) => Promise<T>) => Promise<T>): Promise<readonly Vm[]> {
    if (!Number.isSafeInteger(count) || count < 1 || count > maxForks)
      throw new BerthError('invalid_argument', { reason: `count must be a whole number from 1 to ${maxForks}` });
    const { vm, snapshot } = await whileRunning(async (vm) => {
      this.#checkRoomFor(vm, count);
      return { vm, snapshot: await this.#snapshots.take(vm, { role: 'fork' }) };
    });
    try {
      const { layout, memories } = this.#operations.deps;
      await memories.load(layout.snapshot(snapshot.id), true);
      const { cpus, memoryMiB, diskMiB, egress, tenant, labels, parkAfterSeconds } = vm;
      const nics = sameNics(vm);
      const request = { cpus, memoryMiB, diskMiB, nics, egress, tenant, labels, parkAfterSeconds, hidden: true };
      const copies = await Promise.allSettled(
        Array.from({ length: count }, () => this.#make(request, { snapshot, mode: 'restore' })),
      );
      const made = copies.flatMap((copy) => (copy.status === 'fulfilled' ? [copy.value] : []));
      const failure = copies.find((copy) => copy.status === 'rejected');
      try {
        if (failure) throw failure.reason;
        return await this.#reveal(made.map(({ id }) => id));
      } catch (error) {
        await Promise.all(made.map(({ id }) => this.#remains.erase(id)));
        throw error;
      }
    } finally {
      await this.#forgetFork(snapshot);
    }
  }

  /** Lets copies be seen, all at once and in everybody's turn: one that has ended meanwhile is no copy of a VM that runs. */
  #reveal(ids: readonly string[]): Promise<readonly Vm[]> {
    const { deps, records } = this.#operations;
    const inTurn = (left: readonly string[]): Promise<readonly Vm[]> => {
      const [id, ...others] = left;
      if (id !== undefined) return this.#serial.run(id, () => inTurn(others));
      return revealAll();
    };
    const revealAll = async () => {
      if (ids.some((id) => records.find(id)?.state !== 'running'))
        throw new BerthError('conflict', { reason: 'A copy ended before all were there' });
      failpoint('fork.reveal.before');
      await deps.store.reveal(ids);
      failpoint('fork.reveal.after');
      return ids.map((id) => {
        const revealed = records.put({ ...records.get(id), hidden: false });
        records.emit('vm.created', revealed);
        return revealed;
      });
    };
    return inTurn(ids);
  }

  /** A VM that was kept ready ended by itself; false when it was none. */
  lost(id: string): boolean {
    return this.#spares.lost(id);
  }

  /** Those that are made before anybody asks for them: they hold leases, and make room for VMs that are asked for. */
  uncounted(): readonly Vm[] {
    return [...this.#uncounted].flatMap((id) => this.#operations.records.counted(id) ?? []);
  }

  /** Refuses what has not been begun, waits for what goes on in the background, and removes what was kept ready. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.templates.close();
    await this.#spares.close();
    await this.#remains.retry();
  }

  /** Null when the template is of no use, or a spare of it was not: then there is another way. */
  async #fromTemplate(request: CreateVm, template: StoredSnapshot): Promise<Vm | null> {
    const { log } = this.#operations.deps;
    try {
      const claimed = await this.#spares.claim(template, request);
      if (claimed !== null) return claimed;
      return await this.#make(request, { snapshot: template, mode: 'clone' });
    } catch (error) {
      if (!(error instanceof BerthError) || !troubleOfTemplates.has(error.code)) throw error;
      log.warn({ err: error, template: template.id }, 'a template is of no use; booting instead');
      await this.templates.discard(template);
      await this.#spares.drop(template.id);
      return null;
    } finally {
      if (this.#snapshots.has(template.id)) this.#spares.refill(template, request.egress);
    }
  }

  /** What has become of the copies does not depend on it; one that stays goes at the next start of the daemon. */
  async #forgetFork(snapshot: StoredSnapshot): Promise<void> {
    try {
      await this.#snapshots.remove(snapshot);
    } catch (error) {
      this.#operations.deps.log.error({ err: error, snapshot: snapshot.id }, 'the snapshot of a fork stays');
    }
  }

  #make(request: CreateVm, origin: Origin | null): Promise<Vm> {
    return this.#snapshots.holding(origin?.snapshot.id ?? null, async () => {
      const prepared = await prepareVm(request, origin, this.#operations.deps);
      const start = request.start !== false;
      // A VM that is not to run yet is a record; its files are made at its first start. A snapshot's are linked at once,
      // so that they are there when the snapshot is not.
      const makesFiles = start || origin !== null;
      const { vm, operation } = await this.#reserve(prepared, makesFiles);
      if (makesFiles) return this.#serial.run(vm.id, () => this.#build(vm, operation, start, origin));
      if (!vm.hidden) this.#operations.records.emit('vm.created', vm);
      return vm;
    });
  }

  /** Throws `quota_exceeded` unless there is room for that many more like this one, before anything is done for them. */
  #checkRoomFor(vm: Vm, count: number): void {
    const { deps, records } = this.#operations;
    const { cpus, memoryMiB, tenant } = vm;
    const except = this.uncounted();
    const size = { cpus: cpus * count, memoryMiB: memoryMiB * count, diskMiB: vm.diskMiB * count, dataDisks: [] };
    checkTotals(records.ledger, size, deps.settings.quotas, { active: true, tenant, except, vms: count });
  }

  /** Those that make room for what is asked for. */
  get #uncounted(): ReadonlySet<string> {
    const { vmId } = this.templates;
    return new Set([...this.#spares.ids, ...this.#remains.ids, ...(vmId === null ? [] : [vmId])]);
  }

  #reserve(prepared: PreparedVm, makesFiles: boolean): Promise<{ vm: Vm; operation: Operation }> {
    return this.#reservations.run(async () => {
      if (this.#closing) throw new BerthError('shutting_down');
      const { deps, records } = this.#operations;
      const { vm, operation } = reserveVm(prepared, records, this.#uncounted, deps);
      return { vm: await this.#operations.reserve(vm, makesFiles ? operation : null), operation };
    });
  }

  async #build(vm: Vm, operation: Operation, start: boolean, origin: Origin | null): Promise<Vm> {
    const { records } = this.#operations;
    const mode = origin?.mode ?? 'boot';
    const startingPlan = mode === 'boot' ? bootPlan : clonePlan;
    let renewal: Vm['renewal'];
    try {
      ({ renewal } = await this.#operations.run(start ? startingPlan : createPlan, vm, operation));
    } catch (error) {
      if (!vm.hidden) records.emit('vm.failed', vm);
      const failure = await this.#operations.fail(vm, error, () => this.#operations.forget(vm.id));
      if (vm.hidden) this.#remains.note(vm.id);
      throw failure;
    }
    const [created] = await Promise.all([
      start
        ? this.#operations.finish(vm, runningNow(mode, renewal), 'relaxed')
        : this.#operations.finish(vm, { state: 'created' }),
      origin && this.#snapshots.used(origin.snapshot.id),
    ]);
    if (!vm.hidden) records.emit('vm.created', vm);
    return created;
  }
}

/** What a boot of the image may get right where a clone of a template went wrong. */
const troubleOfTemplates = new Set([
  'snapshot_damaged',
  'snapshot_mismatch',
  'snapshot_not_found',
  'boot_failed',
  'deadline_exceeded',
]);

const noEgress: Egress = { outbound: false, allow: [] };

/** A VM of that shape that nobody is to see. */
function hiddenRequest({ imageId, cpus, memoryMiB }: TemplateShape): CreateVm {
  return { imageId, cpus, memoryMiB, egress: noEgress, hidden: true };
}

/** Interfaces like a VM's, with leases of their own. */
function sameNics({ nics }: Vm): readonly CreateNic[] {
  return nics.map(({ name, families, nameservers, rxLimit, txLimit }) => ({
    name,
    families,
    ...(nameservers === null ? {} : { nameservers }),
    ...(rxLimit === null ? {} : { rxLimit }),
    ...(txLimit === null ? {} : { txLimit }),
  }));
}
