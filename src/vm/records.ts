import { BerthError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import { Ledger } from './ledger.ts';
import type { Vm, VmEvent } from './model.ts';

/** Every VM's current record in memory, as the store has it. One daemon owns a data directory, so nobody else changes it. */
export class Records {
  readonly ledger = new Ledger();
  readonly #log: Log;
  readonly #byId = new Map<string, Vm>();
  /** What VMs are about to be, while that is written; the ledger has these in the place of the records. */
  readonly #claims = new Map<string, Vm>();
  #list: readonly Vm[] | null = null;
  #visible: readonly Vm[] | null = null;
  /** Lists that were asked for since the last change. */
  readonly #byTenant = new Map<string, readonly Vm[]>();
  #revision = 0;
  #eventId = 0;
  readonly #listeners = new Set<(event: VmEvent) => void>();

  constructor(log: Log) {
    this.#log = log;
  }

  get revision(): number {
    return this.#revision;
  }

  list(): readonly Vm[] {
    this.#list ??= Object.freeze([...this.#byId.values()]);
    return this.#list;
  }

  /** Without those that are hidden. */
  visible(): readonly Vm[] {
    this.#visible ??= Object.freeze(this.list().filter(({ hidden }) => !hidden));
    return this.#visible;
  }

  find(id: string): Vm | undefined {
    return this.#byId.get(id);
  }

  /** A VM as the ledger counts it: as it is about to be, where that is being written. */
  counted(id: string): Vm | undefined {
    return this.#claims.get(id) ?? this.#byId.get(id);
  }

  get(id: string): Vm {
    const vm = this.#byId.get(id);
    if (!vm) throw new BerthError('vm_not_found', { id });
    return vm;
  }

  /** The VMs of one tenant, oldest first. */
  listOf(tenant: string): readonly Vm[] {
    let list = this.#byTenant.get(tenant);
    if (list === undefined) {
      list = Object.freeze(this.visible().filter((vm) => vm.tenant === tenant));
      this.#byTenant.set(tenant, list);
    }
    return list;
  }

  /** Throws `vm_not_found`, or `vm_not_owned` when it is another tenant's. */
  getOf(id: string, tenant: string): Vm {
    const vm = this.get(id);
    if (vm.hidden) throw new BerthError('vm_not_found', { id });
    if (vm.tenant !== tenant) throw new BerthError('vm_not_owned', { id });
    return vm;
  }

  /**
   * Counts a VM in the ledger for what it is about to be, from before that is written until {@link put}: what was found to be
   * free is taken at once, and changes of several VMs may be written together. `withdraw` is for when it could not be written.
   */
  claim(vm: Vm): { withdraw(): void } {
    this.ledger.replace(this.counted(vm.id), vm);
    this.#claims.set(vm.id, vm);
    return {
      withdraw: () => {
        this.#claims.delete(vm.id);
        this.ledger.replace(vm, this.#byId.get(vm.id));
      },
    };
  }

  /**
   * A record as an operation leaves it. Whether a VM is parked changes apart from operations: what is known of it stays, for
   * as long as the VM runs.
   */
  put(vm: Vm): Vm {
    const parked = vm.state === 'running' && (this.#byId.get(vm.id) ?? vm).parked;
    this.ledger.replace(this.counted(vm.id), vm);
    this.#claims.delete(vm.id);
    return this.#set({ ...vm, parked });
  }

  /** Notes that a running VM was parked, or woken. */
  setParked(id: string, parked: boolean): void {
    const vm = this.#byId.get(id);
    if (vm?.state === 'running' && vm.parked !== parked) this.#set({ ...vm, parked });
  }

  #set(vm: Vm): Vm {
    const record = Object.freeze(vm);
    this.#byId.set(record.id, record);
    this.#changed();
    return record;
  }

  delete(id: string): void {
    this.ledger.replace(this.counted(id), undefined);
    this.#claims.delete(id);
    if (this.#byId.delete(id)) this.#changed();
  }

  #changed(): void {
    this.#revision++;
    this.#list = null;
    this.#visible = null;
    this.#byTenant.clear();
  }

  emit(type: VmEvent['type'], vm: Pick<Vm, 'id' | 'tenant'>, snapshotId?: string): void {
    const event: VmEvent = {
      id: ++this.#eventId,
      at: new Date().toISOString(),
      type,
      vmId: vm.id,
      tenant: vm.tenant,
      ...(snapshotId === undefined ? {} : { snapshotId }),
    };
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        // What has happened has happened: a listener's trouble is not the operation's.
        this.#log.error({ err: error, event: type }, 'a listener failed');
      }
    }
  }

  subscribe(listener: (event: VmEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
