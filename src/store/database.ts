import { closeSync, openSync } from 'node:fs';
import { Kysely, sql } from 'kysely';
import { isDiskFull } from '../common/errors.ts';
import { migrate } from './migrations.ts';
import type { Schema } from './schema.ts';
import { sqliteDialect } from './sqlite-dialect.ts';

export type Database = Kysely<Schema>;

/** Opens (or creates, readable by its owner only) and migrates the database at `path`. */
export async function openDatabase(path: string): Promise<Database> {
  // SQLite would make the file readable by all, and gives its log the same rights.
  closeSync(openSync(path, 'a', 0o600));
  const db = new Kysely<Schema>({ dialect: sqliteDialect(path) });
  try {
    await migrate(db);
    await takeSpace(db);
  } catch (error) {
    await db.destroy();
    throw error;
  }
  return db;
}

/** Bytes that the database and its log are made large enough for. */
const takenBytes = 1024 * 1024;

/**
 * Makes the file and its log larger than they need to be, so that changes can be written while the disk is full: a removal
 * that makes room is one. On a disk that is full already, what is there has to do.
 */
async function takeSpace(db: Database): Promise<void> {
  try {
    // Other processes may be at it too: each commit leaves what the other can go on from.
    await db.transaction().execute(async (trx) => {
      await sql`CREATE TABLE IF NOT EXISTS spare (filler BLOB)`.execute(trx);
      await sql`INSERT INTO spare VALUES (zeroblob(${takenBytes}))`.execute(trx);
    });
    await sql`PRAGMA wal_checkpoint(RESTART)`.execute(db);
  } catch (error) {
    if (!isDiskFull(error)) throw error;
  }
  await sql`DROP TABLE IF EXISTS spare`.execute(db);
}
