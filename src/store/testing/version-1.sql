-- A database as the first schema version had it, with two VMs, one of them being stopped.
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE activity (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL,
      at TEXT NOT NULL,
      type TEXT NOT NULL,
      entity_type TEXT,
      entity_id TEXT,
      message TEXT NOT NULL,
      meta TEXT
    ) STRICT;
CREATE TABLE api_keys (
      id TEXT NOT NULL PRIMARY KEY,
      name TEXT NOT NULL,
      prefix TEXT NOT NULL UNIQUE,
      hash TEXT NOT NULL,
      created_at TEXT NOT NULL,
      expires_at TEXT,
      revoked_at TEXT,
      last_used_at TEXT
    ) STRICT;
CREATE TABLE exec_log (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL,
      vm_id TEXT NOT NULL,
      type TEXT NOT NULL,
      at TEXT NOT NULL,
      duration_ms INTEGER NOT NULL,
      input TEXT NOT NULL,
      result TEXT NOT NULL
    ) STRICT;
CREATE TABLE images (
      seq INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      directory TEXT NOT NULL UNIQUE,
      record TEXT NOT NULL,
      is_default INTEGER NOT NULL DEFAULT 0
    ) STRICT;
CREATE TABLE operations (
      vm_id TEXT NOT NULL PRIMARY KEY,
      kind TEXT NOT NULL,
      detail TEXT NOT NULL,
      started_at TEXT NOT NULL
    ) STRICT;
INSERT INTO "operations" VALUES('vm-3','stop','{}','2026-01-01T00:00:00.000Z');
CREATE TABLE snapshots (
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
    ) STRICT;
CREATE TABLE vms (
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
    ) STRICT;
INSERT INTO "vms" VALUES(1,'vm-2','name 2','','stopped','qemu',1,256,512,'img-00000000-0000-4000-8000-000000000000',NULL,300002,'172.16.0.2','fd00::2','02:00:ac:10:00:02','tap2','{"outbound":false,"allow":[]}','boot','2026-01-01T00:00:00.000Z',NULL,NULL,NULL,'{}');
INSERT INTO "vms" VALUES(2,'vm-3','name 3','','stopped','qemu',1,256,512,'img-00000000-0000-4000-8000-000000000000',NULL,300003,'172.16.0.3',NULL,'02:00:ac:10:00:03','tap3','{"outbound":false,"allow":[]}','boot','2026-01-01T00:00:00.000Z',NULL,NULL,NULL,'{}');
CREATE UNIQUE INDEX images_one_default ON images (is_default) WHERE is_default = 1;
CREATE INDEX exec_log_by_vm ON exec_log (vm_id, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('vms',2);
COMMIT;
