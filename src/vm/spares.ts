import type { Pending, Serial } from '../common/concurrency.ts';
import type { Egress } from '../net/network.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import type { Operation } from '../store/vm-store.ts';
import type { Vm } from './model.ts';
import { journalEntry, type Operations, runningNow } from './operations.ts';
import { claimReadyPlan, claimWaitingPlan, type Plan, readyPlan, waitingPlan } from './plans.ts';
import type { Remains } from './remains.ts';
import type { CreateVm } from './request.ts';
import { checkRoom, prepareVm, reserveVm } from './reservation.ts';
import type { Snapshots } from './snapshots.ts';

/** How far a spare was brought: its process waits for the state, or it is restored and stands still. */
type SpareKind = 'waiting' | 'ready';

const plans: Readonly<Record<SpareKind, { readonly make: Plan; readonly claim: Plan }>> = {
  waiting: { make: waitingPlan, claim: claimWaitingPlan },
  ready: { make: readyPlan, claim: claimReadyPlan },
};

interface Spare {
  readonly id: string;
  readonly kind: SpareKind;
  readonly templateId: string;
  readonly egress: Egress;
  readonly detail: Operation['detail'];
}

/** What the next VM is expected to be: like the one before. */
interface Expected {
  readonly template: StoredSnapshot;
  readonly egress: Egress;
}

/**
 * Clones that are made before anybody asks for them, of the template that was used last: hidden VMs with leases and files
 * of their own, so that a daemon that is killed finds them as it finds every VM, and removes them.
 */
export class Spares {
  readonly #operations: Operations;
  readonly #snapshots: Snapshots;
  readonly #serial: Serial<string>;
  readonly #reservations: Pending;
  readonly #remains: Remains;
  /** Ids of all VMs that make room for those that are asked for, spares among them. */
  readonly #uncounted: () => ReadonlySet<string>;
  readonly #spares = new Map<string, Spare>();
  /** Those that were chosen for a VM that is asked for, and are not it yet. */
  readonly #chosen = new Set<string>();
  /** The one that is being made. */
  #makingId: string | null = null;
  /** Spares are made one after the other, off the path of requests. */
  #refilling: Promise<void> | null = null;
  #expected: Expected | null = null;
  #closing = false;

  constructor(
    operations: Operations,
    snapshots: Snapshots,
    serial: Serial<string>,
    reservations: Pending,
    remains: Remains,
    uncounted: () => ReadonlySet<string>,
  ) {
    this.#operations = operations;
    this.#snapshots = snapshots;
    this.#serial = serial;
    this.#reservations = reservations;
    this.#remains = remains;
    this.#uncounted = uncounted;
  }

  /** Those that stand by, and the one that is being made: they take no room from anybody. */
  get ids(): ReadonlySet<string> {
    return new Set([...this.#spares.keys(), ...(this.#makingId === null ? [] : [this.#makingId])]);
  }

  /** Makes a spare the VM that is asked for, or returns null when there is none that fits, or it was of no use. */
  async claim(template: StoredSnapshot, request: CreateVm): Promise<Vm | null> {
    // A spare has its id and its files already.
    if (request.id !== undefined || request.consoleFile !== undefined) return null;
    const spare = this.#pick(template);
    if (spare === null) return null;
    this.#operations.deps.log.info({ vm: spare.id, spares: this.#spares.size }, 'a spare is claimed');
    // In its turn: what is done about the end of its process comes before, or waits.
    return this.#serial.run(spare.id, async () => {
      try {
        return await this.#claimInTurn(spare, template, request);
      } finally {
        this.#chosen.delete(spare.id);
      }
    });
  }

  async #claimInTurn(spare: Spare, template: StoredSnapshot, request: CreateVm): Promise<Vm | null> {
    if (!this.#standsBy(spare)) {
      await this.#remains.eraseInTurn(spare.id);
      return null;
    }
    let vm: Vm;
    const egressIsSet = isSameEgress(spare.egress, request.egress) ? 1 : 0;
    const wholeSince = this.#operations.deps.hostBoot;
    const operation = journalEntry(spare.id, 'create', { ...spare.detail, egressIsSet, wholeSince });
    try {
      vm = await this.#reservations.run(() => this.#rewrite(spare, template, request, operation));
    } catch (error) {
      // The request was refused: the spare is as good as before, unless they all have been let go of meanwhile. One that
      // ends from now on is told of when this turn is over.
      if (this.#closing) await this.#remains.eraseInTurn(spare.id);
      else this.#spares.set(spare.id, spare);
      throw error;
    }
    return this.#complete(vm, spare, operation);
  }

  /** Brings the number of spares to what is configured, all like the VM that is expected next; once there is time. */
  refill(template: StoredSnapshot, egress: Egress): void {
    this.#expected = { template, egress };
    if (this.#refilling !== null || this.#closing) return;
    this.#refilling = this.#fill().finally(() => {
      this.#refilling = null;
    });
  }

  /** A spare's process ended by itself. False when the VM is no spare. */
  lost(id: string): boolean {
    // Its claim finds out by itself.
    if (this.#chosen.has(id)) return true;
    if (!this.#spares.delete(id)) return false;
    void this.#remains.erase(id);
    return true;
  }

  /** Lets go of those of a template that is of no use any more. */
  async drop(templateId: string): Promise<void> {
    if (this.#expected?.template.id === templateId) this.#expected = null;
    await this.#drop((spare) => spare.templateId === templateId);
  }

  async close(): Promise<void> {
    this.#closing = true;
    await this.#refilling;
    await this.#drop(() => true);
  }

  #pick(template: StoredSnapshot): Spare | null {
    const fitting = [...this.#spares.values()].filter(({ templateId }) => templateId === template.id);
    const spare = fitting.find(({ kind }) => kind === 'ready') ?? fitting[0] ?? null;
    if (spare === null) return null;
    this.#spares.delete(spare.id);
    this.#chosen.add(spare.id);
    return spare;
  }

  #standsBy({ id }: Spare): boolean {
    const { live, records } = this.#operations;
    return records.find(id)?.state === 'paused' && live.get(id) !== undefined;
  }

  /** The spare's record as the VM that is asked for. All that can be refused is refused here. */
  async #rewrite(spare: Spare, template: StoredSnapshot, request: CreateVm, operation: Operation): Promise<Vm> {
    const { deps, records } = this.#operations;
    const prepared = await prepareVm(request, { snapshot: template, mode: 'clone' }, deps);
    checkRoom(prepared, records, new Set([spare.id, ...this.#uncounted()]), deps);
    const { cpus, memoryMiB, name, tenant, labels, egress, parkAfterSeconds, hidden, apiRecord } = request;
    const vm: Vm = {
      ...records.get(spare.id),
      ...{ cpus, memoryMiB, diskMiB: prepared.diskMiB, imageId: prepared.imageId },
      ...(name === undefined ? {} : { name }),
      tenant: tenant ?? '',
      labels: labels ?? {},
      egress,
      parkAfterSeconds: parkAfterSeconds ?? null,
      hidden: hidden ?? false,
      apiRecord: apiRecord ?? null,
      state: 'starting',
      createdAt: new Date().toISOString(),
    };
    const claimed = await this.#operations.begin(vm, operation);
    // It takes its place in the order of creation now; not before the claim is written, which may fail.
    records.delete(claimed.id);
    return records.put(claimed);
  }

  async #complete(vm: Vm, spare: Spare, operation: Operation): Promise<Vm | null> {
    const { deps, records } = this.#operations;
    try {
      const { renewal } = await this.#operations.run(plans[spare.kind].claim, vm, operation);
      const [created] = await Promise.all([
        this.#operations.finish(vm, runningNow('clone', renewal), 'relaxed'),
        this.#snapshots.used(spare.templateId),
      ]);
      if (!vm.hidden) records.emit('vm.created', vm);
      return created;
    } catch (error) {
      deps.log.warn({ err: error, vm: vm.id }, 'a spare was of no use');
      await this.#remains.eraseInTurn(vm.id);
      return null;
    }
  }

  async #fill(): Promise<void> {
    const { log, settings } = this.#operations.deps;
    const { waiting, ready } = settings.spares;
    for (;;) {
      if (this.#closing || this.#expected === null) return;
      const { template, egress } = this.#expected;
      await this.#drop(({ templateId }) => templateId !== template.id);
      const have = (kind: SpareKind) => [...this.#spares.values()].filter((spare) => spare.kind === kind).length;
      const kind = have('ready') < ready ? 'ready' : have('waiting') < waiting ? 'waiting' : null;
      if (kind === null) return;
      try {
        await this.#make(template, egress, kind);
      } catch (error) {
        // No room, or the template has gone: the next create will do without, and ask again.
        log.info({ err: error, template: template.id }, 'no spare could be made');
        this.#makingId = null;
        return;
      }
    }
  }

  async #make(template: StoredSnapshot, egress: Egress, kind: SpareKind): Promise<void> {
    await this.#snapshots.holding(template.id, async () => {
      const { deps, records } = this.#operations;
      const { imageId, cpus, memoryMiB, diskMiB } = template;
      const request: CreateVm = {
        ...{ cpus, memoryMiB, diskMiB, hidden: true, egress },
        ...(imageId === null ? {} : { imageId }),
      };
      const prepared = await prepareVm(request, { snapshot: template, mode: 'clone' }, deps);
      const { vm, operation } = await this.#reservations.run(async () => {
        const reserved = reserveVm(prepared, records, this.#uncounted(), deps);
        this.#makingId = reserved.vm.id;
        await this.#operations.reserve(reserved.vm, reserved.operation);
        return reserved;
      });
      await this.#serial.run(vm.id, async () => {
        try {
          await this.#operations.run(plans[kind].make, vm, operation);
        } catch (error) {
          const failure = await this.#operations.fail(vm, error, () => this.#operations.forget(vm.id));
          this.#remains.note(vm.id);
          throw failure;
        }
        await this.#operations.finish(vm, { state: 'paused' }, 'relaxed');
        this.#makingId = null;
        this.#spares.set(vm.id, { id: vm.id, kind, templateId: template.id, egress, detail: operation.detail });
        deps.log.info({ vm: vm.id, kind, spares: this.#spares.size }, 'a spare stands by');
      });
    });
  }

  async #drop(isUnwanted: (spare: Spare) => boolean): Promise<void> {
    const unwanted = [...this.#spares.values()].filter(isUnwanted);
    for (const { id } of unwanted) this.#spares.delete(id);
    await Promise.all(unwanted.map(({ id }) => this.#remains.erase(id)));
  }
}

function isSameEgress(a: Egress, b: Egress): boolean {
  const sorted = ({ allow }: Egress) => allow.toSorted().join();
  return a.outbound === b.outbound && sorted(a) === sorted(b);
}
