import { closeSync, openSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { isDiskFull } from '../common/errors.ts';
import { CommitQueue, type Durability } from './commit-queue.ts';
import { LogSync } from './log-sync.ts';
import { migrate } from './migrations.ts';

type SqlValue = null | number | bigint | string | Uint8Array;

/** Reads what is committed, or, within a change, what that change has made of it. */
export interface Reader {
  all<Row>(sql: string, ...values: readonly SqlValue[]): Row[];
  get<Row>(sql: string, ...values: readonly SqlValue[]): Row | undefined;
}

export interface Writer extends Reader {
  run(sql: string, ...values: readonly SqlValue[]): { readonly changes: number; readonly lastInsertRowid: number };
}

/** The one connection to the database of a data directory: SQLite with a write-ahead log and foreign keys enforced. */
export class Database implements Reader {
  readonly #connection: DatabaseSync;
  readonly #statements: Statements;
  readonly #queue: CommitQueue;
  readonly #log: LogSync;
  readonly #onLost: (error: unknown) => void;
  #isLost = false;

  /**
   * @param log its write-ahead log
   * @param onLost as in {@link openDatabase}
   */
  constructor(connection: DatabaseSync, log: LogSync, onLost: (error: unknown) => void) {
    this.#connection = connection;
    this.#log = log;
    this.#statements = new Statements(connection);
    this.#queue = new CommitQueue(connection, () => this.#sync());
    this.#onLost = onLost;
  }

  all<Row>(sql: string, ...values: readonly SqlValue[]): Row[] {
    return this.#statements.all(sql, ...values);
  }

  get<Row>(sql: string, ...values: readonly SqlValue[]): Row | undefined {
    return this.#statements.get(sql, ...values);
  }

  /**
   * Makes a change, all of it or nothing. Resolves once it is committed: `durable`, so that it outlives a loss of power;
   * `relaxed`, so that it outlives the process and the next durable change makes it last. Changes that are asked for at the
   * same time share one commit, none of which sees another fail, and one wait for the disk, which nothing else waits for.
   * `change` must do nothing but read and write here: it may be called again, after what it wrote was taken back.
   */
  write<T>(change: (writer: Writer) => T, durability: Durability = 'durable'): Promise<T> {
    return this.#queue.add(() => change(this.#statements), durability);
  }

  /** Makes what was committed so far durable, for nobody who waits. */
  settleSoon(): void {
    this.#sync().catch(() => {});
  }

  async #sync(): Promise<void> {
    try {
      await this.#log.sync();
    } catch (error) {
      if (!this.#isLost) this.#onLost(error);
      this.#isLost = true;
      throw error;
    }
  }

  /** Commits what waits and closes the connection. */
  close(): void {
    this.#queue.flush();
    this.#connection.close();
    this.#log.close();
  }
}

/** Statements kept prepared; the texts in the sources are few, this only bounds a mistake. */
const maxStatements = 256;

class Statements implements Writer {
  readonly #connection: DatabaseSync;
  readonly #prepared = new Map<string, StatementSync>();

  constructor(connection: DatabaseSync) {
    this.#connection = connection;
  }

  all<Row>(sql: string, ...values: readonly SqlValue[]): Row[] {
    return this.#prepare(sql).all(...values) as Row[];
  }

  get<Row>(sql: string, ...values: readonly SqlValue[]): Row | undefined {
    return this.#prepare(sql).get(...values) as Row | undefined;
  }

  run(sql: string, ...values: readonly SqlValue[]) {
    const { changes, lastInsertRowid } = this.#prepare(sql).run(...values);
    return { changes: Number(changes), lastInsertRowid: Number(lastInsertRowid) };
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#prepared.get(sql);
    if (!statement) {
      if (this.#prepared.size >= maxStatements) this.#prepared.clear();
      statement = this.#connection.prepare(sql);
      this.#prepared.set(sql, statement);
    }
    return statement;
  }
}

/** What SQLite may keep of the file in memory, KiB; it takes what it reads. */
const cacheKiB = 8192;

/**
 * Opens (or creates, readable by its owner only) and migrates the database at `path`.
 * @param onLost told, once, that the disk did not take what was committed. From then on this process does not know what the
 *   database holds after a loss of power, and no change is reported as durable.
 */
export function openDatabase(path: string, onLost: (error: unknown) => void = () => {}): Database {
  // SQLite would make the file readable by all, and gives its log the same rights.
  closeSync(openSync(path, 'a', 0o600));
  const connection = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 5000 });
  let log: LogSync;
  try {
    // Commits are on the disk once the log is, see LogSync; SQLite sees to it before it lets go of the log.
    connection.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -${cacheKiB};`);
    migrate(connection);
    takeSpace(connection);
    log = new LogSync(`${path}-wal`);
  } catch (error) {
    connection.close();
    throw error;
  }
  return new Database(connection, log, onLost);
}

/** Bytes that the database and its log are made large enough for. */
const takenBytes = 1024 * 1024;

/**
 * Makes the file and its log larger than they need to be, so that changes can be written while the disk is full: a removal
 * that makes room is one. On a disk that is full already, what is there has to do.
 */
function takeSpace(connection: DatabaseSync): void {
  try {
    // Other processes may be at it too: each commit leaves what the other can go on from.
    connection.exec(`BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS spare (filler BLOB);
      INSERT INTO spare VALUES (zeroblob(${takenBytes})); COMMIT; PRAGMA wal_checkpoint(RESTART);`);
  } catch (error) {
    if (connection.isTransaction) connection.exec('ROLLBACK');
    if (!isDiskFull(error)) throw error;
  }
  connection.exec('DROP TABLE IF EXISTS spare');
}
