import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { type Dialect, SqliteDialect } from 'kysely';

/** What Kysely's SQLite driver expects of a prepared statement. */
interface KyselyStatement {
  readonly reader: boolean;
  all(parameters: readonly unknown[]): unknown[];
  run(parameters: readonly unknown[]): { changes: number | bigint; lastInsertRowid: number | bigint };
  iterate(parameters: readonly unknown[]): IterableIterator<unknown>;
}

type SqlValue = null | number | bigint | string | Uint8Array;

/** Prepared statements kept per connection; Kysely's texts are few, this only bounds a mistake. */
const maxStatements = 256;

/**
 * Opens a database file for Kysely on Node's built-in SQLite: write-ahead log, every commit synced to disk, foreign keys
 * enforced.
 */
export function sqliteDialect(path: string): Dialect {
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 5000 });
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
  const statements = new Map<string, KyselyStatement>();
  return new SqliteDialect({
    database: {
      close: () => database.close(),
      prepare(sql: string) {
        // A pragma acts when it is prepared, not when it is run.
        if (/^PRAGMA\b/i.test(sql)) return adapt(database.prepare(sql));
        let statement = statements.get(sql);
        if (!statement) {
          if (statements.size >= maxStatements) statements.clear();
          statement = adapt(database.prepare(sql));
          statements.set(sql, statement);
        }
        return statement;
      },
    },
  });
}

function adapt(statement: StatementSync): KyselyStatement {
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...(parameters as SqlValue[])),
    run: (parameters) => statement.run(...(parameters as SqlValue[])),
    iterate: (parameters) => statement.iterate(...(parameters as SqlValue[])),
  };
}
