import type { Snapshot } from '../vm/model.ts';
import type { Database } from './database.ts';
import type { SnapshotRow } from './schema.ts';
import { Table } from './table.ts';

/** What a snapshot is for: made by a client; to clone new VMs from; or of a fork that is under way. */
export type SnapshotRole = 'user' | 'template' | 'fork';

/** A snapshot, with what only the VM room needs to know. */
export interface StoredSnapshot extends Snapshot {
  /** File name of the newest disk layer. */
  readonly layer: string;
  readonly role: SnapshotRole;
  /** What a template is a template of; null for others. */
  readonly templateKey: string | null;
  /** What its memory and newest layer take on the disk. */
  readonly bytes: number;
  /** ISO 8601; null when no VM was made from it. */
  readonly lastUsedAt: string | null;
}

const table = new Table<SnapshotRow>('snapshots', [
  'id',
  'kind',
  'created_at',
  'source_vm_id',
  'tenant',
  'image_id',
  'cpus',
  'memory_mib',
  'disk_mib',
  'layer',
  'role',
  'template_key',
  'bytes',
  'last_used_at',
]);

export class SnapshotStore {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<StoredSnapshot[]> {
    return table.select(this.#db, 'ORDER BY seq').map(fromRow);
  }

  /** The snapshot's row, and its journal entry gone, in one commit. */
  async publish(snapshot: StoredSnapshot): Promise<void> {
    await this.#db.write((writer) => {
      table.insert(writer, toRow(snapshot));
      writer.run('DELETE FROM operations WHERE vm_id = ?', snapshot.sourceVmId);
    });
  }

  async setLastUsed(id: string, at: string): Promise<void> {
    await this.#db.write(
      (writer) => writer.run('UPDATE snapshots SET last_used_at = ? WHERE id = ?', at, id),
      'relaxed',
    );
  }

  async delete(id: string): Promise<void> {
    await this.#db.write((writer) => writer.run('DELETE FROM snapshots WHERE id = ?', id));
  }
}

function toRow(snapshot: StoredSnapshot): SnapshotRow {
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
    role: snapshot.role,
    template_key: snapshot.templateKey,
    bytes: snapshot.bytes,
    last_used_at: snapshot.lastUsedAt,
  };
}

function fromRow(row: SnapshotRow): StoredSnapshot {
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
    role: row.role as SnapshotRole,
    templateKey: row.template_key,
    bytes: row.bytes,
    lastUsedAt: row.last_used_at,
  });
}
