import { sql, type Transaction } from 'kysely';
import type { Database } from './database.ts';
import type { Schema } from './schema.ts';

/**
 * A transaction whose commit does not wait for the disk, for what may be forgotten when the host loses power: it is never
 * lost when the process is killed. Any later ordinary commit makes it durable too.
 *
 * On the one connection there is: a second one would meet its locks, and SQLite waits for those without letting anything
 * else run, the holder included.
 */
export async function commitRelaxed(db: Database, write: (trx: Transaction<Schema>) => Promise<void>): Promise<void> {
  await db.connection().execute(async (connection) => {
    await sql`PRAGMA synchronous = NORMAL`.execute(connection);
    try {
      await connection.transaction().execute(write);
    } finally {
      await sql`PRAGMA synchronous = FULL`.execute(connection);
    }
  });
}
