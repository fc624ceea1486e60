import type { Vm } from '../vm/model.ts';
import type { Durability } from './commit-queue.ts';
import type { Database, Writer } from './database.ts';
import type { NicRow, OperationRow, VmRow } from './schema.ts';
import { Table } from './table.ts';
import { fromRows, nicRows, type StoredVmRow, toRow } from './vm-rows.ts';

export type OperationKind = 'create' | 'start' | 'stop' | 'remove' | 'resize' | 'snapshot' | 'merge';

export interface Operation {
  readonly vmId: string;
  readonly kind: OperationKind;
  readonly detail: Readonly<Record<string, string | number | null>>;
  readonly startedAt: string;
}

const vmTable = new Table<VmRow>('vms', [
  'id',
  'name',
  'tenant',
  'state',
  'engine',
  'cpus',
  'memory_mib',
  'disk_mib',
  'image_id',
  'snapshot_id',
  'uid',
  'boot',
  'kernel_args',
  'guest_channel',
  'root_disk',
  'data_disks',
  'egress',
  'start_mode',
  'created_at',
  'started_at',
  'stopped_at',
  'changed_at',
  'reason',
  'console_file',
  'labels',
  'park_after_seconds',
  'hidden',
  'renewal',
  'api_record',
]);
const nicTable = new Table<NicRow>('nics', [
  'vm_id',
  'position',
  'name',
  'families',
  'ipv4',
  'ipv6',
  'mac',
  'tap',
  'options',
]);
const operationTable = new Table<OperationRow>('operations', ['vm_id', 'kind', 'detail', 'started_at']);

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
    const rows = this.#db.all<StoredVmRow>('SELECT * FROM vms ORDER BY created_at, seq');
    const nicsOf = Map.groupBy(nicTable.select(this.#db, 'ORDER BY vm_id, position'), ({ vm_id }) => vm_id);
    return rows.map((row) => fromRows(row, nicsOf.get(row.id) ?? []));
  }

  async operations(): Promise<Operation[]> {
    return operationTable.select(this.#db, '').map((row) => ({
      vmId: row.vm_id,
      kind: row.kind as OperationKind,
      detail: JSON.parse(row.detail) as Operation['detail'],
      startedAt: row.started_at,
    }));
  }

  /**
   * A new row and the intent to build it, in one commit. A lease that is taken fails the whole. Should the host lose power
   * before the next durable commit, neither was ever there, and what was begun is swept as nobody's. A VM that nothing is
   * built of yet is as good as its row, which is durable.
   */
  async insert(vm: Vm, operation: Operation | null): Promise<void> {
    await this.#db.write(
      (writer) => {
        vmTable.insert(writer, toRow(vm));
        insertNics(writer, vm);
        if (operation) operationTable.insert(writer, operationRow(operation));
      },
      operation === null ? 'durable' : 'relaxed',
    );
  }

  /**
   * The intent to change a VM, with the state and the leases it has from now on. An entry that is still there belongs to an
   * operation that failed and could not be undone; the new one, a removal or another try, takes its place. A VM that starts
   * or stops is down after a loss of power whatever was meant; what is to be done to its files must be known then.
   */
  async begin(vm: Vm, operation: Operation): Promise<void> {
    const durability = changesPower.has(operation.kind) ? 'relaxed' : 'durable';
    await this.#db.write((writer) => {
      updateVm(writer, vm);
      // All at once: an interface may be given an address that another one of the VM had.
      writer.run('DELETE FROM nics WHERE vm_id = ?', vm.id);
      insertNics(writer, vm);
      operationTable.replace(writer, 'vm_id', operationRow(operation));
    }, durability);
  }

  /**
   * Notes, durably, that the files of a VM which is coming up are whole and on the disk: should the host, which booted as
   * `hostBoot`, lose power from now on, the VM is kept.
   */
  async keep(id: string, hostBoot: string): Promise<void> {
    await this.#db.write((writer) =>
      writer.run("UPDATE operations SET detail = json_set(detail, '$.wholeSince', ?) WHERE vm_id = ?", hostBoot, id),
    );
  }

  /** Durably takes {@link keep} back: before the files go. */
  async forsake(id: string): Promise<void> {
    await this.#db.write((writer) =>
      writer.run("UPDATE operations SET detail = json_remove(detail, '$.wholeSince') WHERE vm_id = ?", id),
    );
  }

  /** Resolves when everything that was written so far outlives a loss of power. */
  async settled(): Promise<void> {
    await this.#db.write(() => {});
  }

  /**
   * The outcome: the new row, and the journal entry gone. `relaxed` where the entry, should it come back after a loss of
   * power, leads to what the VM would be then; it is durable soon all the same.
   */
  async finish(vm: Vm, durability: Durability = 'durable'): Promise<void> {
    await this.#db.write((writer) => {
      updateVm(writer, vm);
      writer.run('DELETE FROM operations WHERE vm_id = ?', vm.id);
    }, durability);
    if (durability === 'relaxed') this.#db.settleSoon();
  }

  async update(vm: Vm, durability: Durability = 'durable'): Promise<void> {
    await this.#db.write((writer) => updateVm(writer, vm), durability);
  }

  /**
   * Notes that a running VM was parked, or woken. Nothing waits for the disk: a VM does not outlive a loss of power, and the
   * process tells the next daemon whether the note is true.
   */
  async setParked(id: string, parked: boolean): Promise<void> {
    await this.#db.write(
      (writer) => writer.run('UPDATE vms SET parked = ? WHERE id = ?', parked ? 1 : 0, id),
      'relaxed',
    );
  }

  /** Lets VMs that were hidden be seen, all in one commit. */
  async reveal(ids: readonly string[]): Promise<void> {
    await this.#db.write((writer) => {
      for (const id of ids) writer.run('UPDATE vms SET hidden = 0 WHERE id = ?', id);
    });
  }

  /** Row, leases and journal entry of a VM that is no more. */
  async delete(id: string): Promise<void> {
    await this.#db.write((writer) => {
      writer.run('DELETE FROM vms WHERE id = ?', id);
      writer.run('DELETE FROM operations WHERE vm_id = ?', id);
      writer.run('DELETE FROM exec_log WHERE vm_id = ?', id);
    });
  }
}

const changesPower: ReadonlySet<OperationKind> = new Set(['create', 'start', 'stop']);

/** Operations leave the note that a running VM is parked alone: it may be woken while they are under way. */
function updateVm(writer: Writer, vm: Vm): void {
  vmTable.update(writer, toRow(vm), 'id = ?', vm.id);
  if (vm.state !== 'running') writer.run('UPDATE vms SET parked = 0 WHERE id = ?', vm.id);
}

function insertNics(writer: Writer, vm: Vm): void {
  for (const row of nicRows(vm)) nicTable.insert(writer, row);
}

function operationRow(operation: Operation): OperationRow {
  return {
    vm_id: operation.vmId,
    kind: operation.kind,
    detail: JSON.stringify(operation.detail),
    started_at: operation.startedAt,
  };
}
