import { sql, type Transaction } from 'kysely';
import type { Database } from './database.ts';
import type { Schema } from './schema.ts';

/**
 * Writes to a log in one transaction whose commit does not wait for the disk: what people read about the past is not worth
 * that at every command. The last entries may be lost when the host loses power, never when the process is killed.
 *
 * On the one connection there is: a second one would meet its locks, and SQLite waits for those without letting anything
 * else run, the holder included.
 */
export async function writeLog(db: Database, write: (trx: Transaction<Schema>) => Promise<void>): Promise<void> {
  await db.connection().execute(async (connection) => {
    await sql`PRAGMA synchronous = NORMAL`.execute(connection);
    try {
      await connection.transaction().execute(write);
    } finally {
      await sql`PRAGMA synchronous = FULL`.execute(connection);
    }
  });
}
