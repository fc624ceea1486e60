import type { Insertable, Selectable } from 'kysely';
import type { StartMode, Vm, VmState } from '../vm/model.ts';
import type { Database } from './database.ts';
import { commitRelaxed } from './relaxed-commit.ts';
import type { VmTable } from './schema.ts';

export type OperationKind = 'create' | 'start' | 'stop' | 'remove' | 'resize' | 'snapshot';

export interface Operation {
  readonly vmId: string;
  readonly kind: OperationKind;
  readonly detail: Readonly<Record<string, string | number | null>>;
  readonly startedAt: string;
}

/**
 * VM rows and the journal of what is being done to them. The two change together, so that after a crash each VM either
 * has its finished row or a journal entry that says how to get there.
 */
export class VmStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<Vm[]> {
    const rows = await this.#db.selectFrom('vms').selectAll().orderBy('created_at').orderBy('seq').execute();
    return rows.map(fromRow);
  }

  async operations(): Promise<Operation[]> {
    const rows = await this.#db.selectFrom('operations').selectAll().execute();
    return rows.map((row) => ({
      vmId: row.vm_id,
      kind: row.kind as OperationKind,
      detail: JSON.parse(row.detail) as Operation['detail'],
      startedAt: row.started_at,
    }));
  }

  /**
   * A new row and the intent to build it, in one commit. A lease that is taken fails the whole. Should the host lose power
   * before the next ordinary commit, neither was ever there, and what was begun is swept as nobody's.
   */
  async insert(vm: Vm, operation: Operation | null): Promise<void> {
    await commitRelaxed(this.#db, async (trx) => {
      await trx.insertInto('vms').values(toRow(vm)).execute();
      if (operation) await trx.insertInto('operations').values(operationRow(operation)).execute();
    });
  }

  /**
   * The intent to change a VM, with the state it has meanwhile. An entry that is still there belongs to an operation that
   * failed and could not be undone; the new one, a removal or another try, takes its place.
   */
  async begin(vm: Vm, operation: Operation): Promise<void> {
    const entry = operationRow(operation);
    await this.#db.transaction().execute(async (trx) => {
      await trx.updateTable('vms').set(toRow(vm)).where('id', '=', vm.id).execute();
      await trx
        .insertInto('operations')
        .values(entry)
        .onConflict((conflict) => conflict.column('vm_id').doUpdateSet(entry))
        .execute();
    });
  }

  /** The outcome: the new row, and the journal entry gone. */
  async finish(vm: Vm): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      await trx.updateTable('vms').set(toRow(vm)).where('id', '=', vm.id).execute();
      await trx.deleteFrom('operations').where('vm_id', '=', vm.id).execute();
    });
  }

  async update(vm: Vm): Promise<void> {
    await this.#db.updateTable('vms').set(toRow(vm)).where('id', '=', vm.id).execute();
  }

  /**
   * Notes that a running VM was parked, or woken. Nothing waits for the disk: a VM does not outlive a loss of power, and the
   * process tells the next daemon whether the note is true.
   */
  async setParked(id: string, parked: boolean): Promise<void> {
    await commitRelaxed(this.#db, async (trx) => {
      await trx
        .updateTable('vms')
        .set({ parked: parked ? 1 : 0 })
        .where('id', '=', id)
        .execute();
    });
  }

  /** Lets VMs that were hidden be seen, all in one commit. */
  async reveal(ids: readonly string[]): Promise<void> {
    await this.#db.updateTable('vms').set({ hidden: 0 }).where('id', 'in', ids).execute();
  }

  /** Row, leases and journal entry of a VM that is no more. */
  async delete(id: string): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      await trx.deleteFrom('vms').where('id', '=', id).execute();
      await trx.deleteFrom('operations').where('vm_id', '=', id).execute();
      await trx.deleteFrom('exec_log').where('vm_id', '=', id).execute();
    });
  }
}

function operationRow(operation: Operation) {
  return {
    vm_id: operation.vmId,
    kind: operation.kind,
    detail: JSON.stringify(operation.detail),
    started_at: operation.startedAt,
  };
}

function toRow(vm: Vm): Insertable<VmTable> {
  return {
    id: vm.id,
    name: vm.name,
    tenant: vm.tenant,
    state: vm.state,
    engine: vm.engine,
    cpus: vm.cpus,
    memory_mib: vm.memoryMiB,
    disk_mib: vm.diskMiB,
    image_id: vm.imageId,
    snapshot_id: vm.snapshotId,
    uid: vm.uid,
    ipv4: vm.addresses.ipv4,
    ipv6: vm.addresses.ipv6,
    mac: vm.addresses.mac,
    tap: vm.addresses.tap,
    egress: JSON.stringify(vm.egress),
    start_mode: vm.startMode,
    created_at: vm.createdAt,
    started_at: vm.startedAt,
    stopped_at: vm.stoppedAt,
    reason: vm.reason,
    labels: JSON.stringify(vm.labels),
    park_after_seconds: vm.parkAfterSeconds,
    // Operations leave the note of a running VM alone: it may be woken while they are under way.
    ...(vm.state === 'running' ? {} : { parked: 0 }),
    hidden: vm.hidden ? 1 : 0,
    renewal: vm.renewal === null ? null : JSON.stringify(vm.renewal),
  };
}

function fromRow(row: Selectable<VmTable>): Vm {
  return Object.freeze({
    id: row.id,
    name: row.name,
    tenant: row.tenant,
    state: row.state as VmState,
    engine: row.engine,
    cpus: row.cpus,
    memoryMiB: row.memory_mib,
    diskMiB: row.disk_mib,
    imageId: row.image_id,
    snapshotId: row.snapshot_id,
    uid: row.uid,
    addresses: Object.freeze({ ipv4: row.ipv4, ipv6: row.ipv6, mac: row.mac, tap: row.tap }),
    egress: Object.freeze(JSON.parse(row.egress)) as Vm['egress'],
    startMode: row.start_mode as StartMode | null,
    createdAt: row.created_at,
    startedAt: row.started_at,
    stoppedAt: row.stopped_at,
    reason: row.reason,
    labels: Object.freeze(JSON.parse(row.labels)) as Vm['labels'],
    parkAfterSeconds: row.park_after_seconds,
    parked: row.parked === 1,
    hidden: row.hidden === 1,
    renewal: row.renewal === null ? null : (Object.freeze(JSON.parse(row.renewal)) as Vm['renewal']),
  });
}
