import type { DatabaseSync } from 'node:sqlite';

/**
 * The schema's history, oldest first. A migration that has been released is never edited: a change is a new entry.
 * Each runs in a transaction of its own together with the new version number.
 */
const migrations: readonly (readonly string[])[] = [
  [
    // Every lease is a UNIQUE column: two VMs with one address cannot be written at all.
    `CREATE TABLE vms (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      tenant TEXT NOT NULL,
      state TEXT NOT NULL,
      engine TEXT NOT NULL,
      cpus INTEGER NOT NULL,
      memory_mib INTEGER NOT NULL,
      disk_mib INTEGER NOT NULL,
      image_id TEXT,
      snapshot_id TEXT,
      uid INTEGER UNIQUE,
      ipv4 TEXT NOT NULL UNIQUE,
      ipv6 TEXT UNIQUE,
      mac TEXT NOT NULL UNIQUE,
      tap TEXT NOT NULL UNIQUE,
      egress TEXT NOT NULL,
      start_mode TEXT,
      created_at TEXT NOT NULL,
      started_at TEXT,
      stopped_at TEXT,
      reason TEXT,
      labels TEXT NOT NULL
    ) STRICT`,
    `CREATE TABLE operations (
      vm_id TEXT NOT NULL PRIMARY KEY,
      kind TEXT NOT NULL,
      detail TEXT NOT NULL,
      started_at TEXT NOT NULL
    ) STRICT`,
    `CREATE TABLE images (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      directory TEXT NOT NULL UNIQUE,
      record TEXT NOT NULL,
      is_default INTEGER NOT NULL DEFAULT 0
    ) STRICT`,
    `CREATE UNIQUE INDEX images_one_default ON images (is_default) WHERE is_default = 1`,
    `CREATE TABLE snapshots (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      kind TEXT NOT NULL,
      created_at TEXT NOT NULL,
      source_vm_id TEXT NOT NULL,
      tenant TEXT NOT NULL,
      image_id TEXT,
      cpus INTEGER NOT NULL,
      memory_mib INTEGER NOT NULL,
      disk_mib INTEGER NOT NULL,
      layer TEXT NOT NULL
    ) STRICT`,
    `CREATE TABLE api_keys (
      id TEXT NOT NULL PRIMARY KEY,
      name TEXT NOT NULL,
      prefix TEXT NOT NULL UNIQUE,
      hash TEXT NOT NULL,
      created_at TEXT NOT NULL,
      expires_at TEXT,
      revoked_at TEXT,
      last_used_at TEXT
    ) STRICT`,
    `CREATE TABLE exec_log (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL,
      vm_id TEXT NOT NULL,
      type TEXT NOT NULL,
      at TEXT NOT NULL,
      duration_ms INTEGER NOT NULL,
      input TEXT NOT NULL,
      result TEXT NOT NULL
    ) STRICT`,
    `CREATE INDEX exec_log_by_vm ON exec_log (vm_id, seq)`,
    `CREATE TABLE activity (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL,
      at TEXT NOT NULL,
      type TEXT NOT NULL,
      entity_type TEXT,
      entity_id TEXT,
      message TEXT NOT NULL,
      meta TEXT
    ) STRICT`,
  ],
  [
    // Several network interfaces for each VM, with the leases in a table of their own; disks and kernels of the creator's.
    `ALTER TABLE vms RENAME TO vms_1`,
    `CREATE TABLE vms (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      tenant TEXT NOT NULL,
      state TEXT NOT NULL,
      engine TEXT NOT NULL,
      cpus INTEGER NOT NULL,
      memory_mib INTEGER NOT NULL,
      disk_mib INTEGER NOT NULL,
      image_id TEXT,
      snapshot_id TEXT,
      uid INTEGER UNIQUE,
      boot TEXT,
      kernel_args TEXT NOT NULL,
      guest_channel TEXT NOT NULL,
      root_disk TEXT NOT NULL,
      data_disks TEXT NOT NULL,
      egress TEXT NOT NULL,
      start_mode TEXT,
      created_at TEXT NOT NULL,
      started_at TEXT,
      stopped_at TEXT,
      changed_at TEXT NOT NULL,
      reason TEXT,
      console_file TEXT,
      labels TEXT NOT NULL,
      api_record TEXT
    ) STRICT`,
    `INSERT INTO vms
      SELECT seq, id, name, tenant, state, engine, cpus, memory_mib, disk_mib, image_id, snapshot_id, uid,
        NULL, '', 'required', '{"name":"root","readOnly":false,"asset":null}', '[]',
        egress, start_mode, created_at, started_at, stopped_at, coalesce(stopped_at, started_at, created_at), reason,
        NULL, labels, NULL
      FROM vms_1 ORDER BY seq`,
    `CREATE TABLE nics (
      vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
      position INTEGER NOT NULL,
      name TEXT NOT NULL,
      families TEXT NOT NULL,
      ipv4 TEXT NOT NULL UNIQUE,
      ipv6 TEXT UNIQUE,
      mac TEXT NOT NULL UNIQUE,
      tap TEXT NOT NULL UNIQUE,
      options TEXT NOT NULL,
      PRIMARY KEY (vm_id, position)
    ) STRICT`,
    `INSERT INTO nics
      SELECT id, 0, 'eth0', 'dual', ipv4, ipv6, mac, tap, '{"nameservers":null,"rxLimit":null,"txLimit":null}' FROM vms_1`,
    `DROP TABLE vms_1`,
  ],
  [
    `CREATE TABLE customer_tokens (
      id TEXT NOT NULL PRIMARY KEY,
      customer TEXT NOT NULL,
      name TEXT NOT NULL,
      hash TEXT NOT NULL,
      created_at TEXT NOT NULL,
      expires_at TEXT,
      revoked_at TEXT
    ) STRICT`,
  ],
  [
    'ALTER TABLE vms ADD COLUMN park_after_seconds INTEGER',
    'ALTER TABLE vms ADD COLUMN parked INTEGER NOT NULL DEFAULT 0',
  ],
  [
    'ALTER TABLE vms ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0',
    'ALTER TABLE vms ADD COLUMN renewal TEXT',
    "ALTER TABLE snapshots ADD COLUMN role TEXT NOT NULL DEFAULT 'user'",
    'ALTER TABLE snapshots ADD COLUMN template_key TEXT',
    'ALTER TABLE snapshots ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0',
    'ALTER TABLE snapshots ADD COLUMN last_used_at TEXT',
    // A key that is current names one template.
    'CREATE UNIQUE INDEX snapshots_by_template_key ON snapshots (template_key)',
  ],
];

/** The data directory was written by a newer Berth; it is left untouched. */
export class NewerSchemaError extends Error {
  constructor(found: number) {
    super(
      `the database has schema version ${found}, this build knows ${migrations.length}: install the newer version again`,
    );
    this.name = 'NewerSchemaError';
  }
}

/** Brings the database to the current schema. Throws {@link NewerSchemaError} rather than guess at an unknown one. */
export function migrate(connection: DatabaseSync): void {
  const found = version(connection);
  if (found > migrations.length) throw new NewerSchemaError(found);
  for (let next = found; next < migrations.length; next++) {
    connection.exec('BEGIN');
    try {
      for (const statement of migrations[next]!) connection.exec(statement);
      // user_version is part of the database header and so of the transaction.
      connection.exec(`PRAGMA user_version = ${next + 1}; COMMIT`);
    } catch (error) {
      if (connection.isTransaction) connection.exec('ROLLBACK');
      throw error;
    }
  }
}

function version(connection: DatabaseSync): number {
  return (connection.prepare('PRAGMA user_version').get() as { readonly user_version: number }).user_version;
}
