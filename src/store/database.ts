import { chmodSync } from 'node:fs';
import { Kysely } from 'kysely';
import { migrate } from './migrations.ts';
import type { Schema } from './schema.ts';
import { sqliteDialect } from './sqlite-dialect.ts';

export type Database = Kysely<Schema>;

/** Opens (or creates, readable by its owner only) and migrates the database at `path`. */
export async function openDatabase(path: string): Promise<Database> {
  const db = new Kysely<Schema>({ dialect: sqliteDialect(path) });
  try {
    chmodSync(path, 0o600);
    await migrate(db);
  } catch (error) {
    await db.destroy();
    throw error;
  }
  return db;
}
