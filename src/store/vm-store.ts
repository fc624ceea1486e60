import type { Transaction } from 'kysely';
import type { Vm } from '../vm/model.ts';
import type { Database } from './database.ts';
import { commitRelaxed } from './relaxed-commit.ts';
import type { Schema } from './schema.ts';
import { fromRows, nicRows, toRow } from './vm-rows.ts';

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
    const nics = await this.#db.selectFrom('nics').selectAll().orderBy('vm_id').orderBy('position').execute();
    const nicsOf = Map.groupBy(nics, ({ vm_id }) => vm_id);
    return rows.map((row) => fromRows(row, nicsOf.get(row.id) ?? []));
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
      await trx.insertInto('nics').values(nicRows(vm)).execute();
      if (operation) await trx.insertInto('operations').values(operationRow(operation)).execute();
    });
  }

  /**
   * The intent to change a VM, with the state and the leases it has from now on. An entry that is still there belongs to an operation that
   * failed and could not be undone; the new one, a removal or another try, takes its place.
   */
  async begin(vm: Vm, operation: Operation): Promise<void> {
    const entry = operationRow(operation);
    await this.#db.transaction().execute(async (trx) => {
      await trx.updateTable('vms').set(toRow(vm)).where('id', '=', vm.id).execute();
      await replaceNics(trx, vm);
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

/** All at once: an interface may be given an address that another one of the VM had. */
async function replaceNics(trx: Transaction<Schema>, vm: Vm): Promise<void> {
  await trx.deleteFrom('nics').where('vm_id', '=', vm.id).execute();
  await trx.insertInto('nics').values(nicRows(vm)).execute();
}

function operationRow(operation: Operation) {
  return {
    vm_id: operation.vmId,
    kind: operation.kind,
    detail: JSON.stringify(operation.detail),
    started_at: operation.startedAt,
  };
}
