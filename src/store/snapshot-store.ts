import type { Insertable, Selectable } from 'kysely';
import type { Snapshot } from '../vm/model.ts';
import type { Database } from './database.ts';
import type { SnapshotTable } from './schema.ts';

/** A snapshot and the file name of its newest disk layer. */
export interface StoredSnapshot extends Snapshot {
  readonly layer: string;
}

export class SnapshotStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<StoredSnapshot[]> {
    return (await this.#db.selectFrom('snapshots').selectAll().orderBy('seq').execute()).map(fromRow);
  }

  /** The snapshot's row, and its journal entry gone, in one commit. */
  async publish(snapshot: StoredSnapshot): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      await trx.insertInto('snapshots').values(toRow(snapshot)).execute();
      await trx.deleteFrom('operations').where('vm_id', '=', snapshot.sourceVmId).execute();
    });
  }

  async delete(id: string): Promise<void> {
    await this.#db.deleteFrom('snapshots').where('id', '=', id).execute();
  }
}

function toRow(snapshot: StoredSnapshot): Insertable<SnapshotTable> {
  return {
    id: snapshot.id,
    kind: snapshot.kind,
    created_at: snapshot.createdAt,
    source_vm_id: snapshot.sourceVmId,
    tenant: snapshot.tenant,
    image_id: snapshot.imageId,
    cpus: snapshot.cpus,
    memory_mib: snapshot.memoryMiB,
    disk_mib: snapshot.diskMiB,
    layer: snapshot.layer,
  };
}

function fromRow(row: Selectable<SnapshotTable>): StoredSnapshot {
  return Object.freeze({
    id: row.id,
    kind: row.kind as Snapshot['kind'],
    createdAt: row.created_at,
    sourceVmId: row.source_vm_id,
    tenant: row.tenant,
    imageId: row.image_id,
    cpus: row.cpus,
    memoryMiB: row.memory_mib,
    diskMiB: row.disk_mib,
    layer: row.layer,
  });
}
