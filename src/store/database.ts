import { closeSync, openSync } from 'node:fs';
import { Kysely } from 'kysely';
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
  } catch (error) {
    await db.destroy();
    throw error;
  }
  return db;
}
