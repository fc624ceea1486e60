import type { Database } from './database.ts';

/** What is kept of a secret that somebody was given once: its hash, never the secret. Times are ISO 8601. */
export interface StoredCredential {
  readonly id: string;
  /** What its maker calls it; may be empty. */
  readonly name: string;
  readonly hash: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
}

/** Columns by the field that holds them. */
export type Columns<T> = { readonly [K in keyof T]-?: string };

export const credentialColumns: Columns<StoredCredential> = {
  id: 'id',
  name: 'name',
  hash: 'hash',
  createdAt: 'created_at',
  expiresAt: 'expires_at',
  revokedAt: 'revoked_at',
};

/** A table of credentials, which has columns for more than they have in common. */
export class CredentialRows<T extends StoredCredential> {
  protected readonly db: Database;
  readonly #table: string;
  readonly #columns: Columns<T>;

  constructor(db: Database, table: string, columns: Columns<T>) {
    this.db = db;
    this.#table = table;
    this.#columns = columns;
  }

  async find(id: string): Promise<T | null> {
    return this.select('WHERE id = ?', id)[0] ?? null;
  }

  async insert(credential: T): Promise<void> {
    const entries = Object.entries<string>(this.#columns);
    const values = entries.map(([field]) => credential[field as keyof T] as string | null);
    const columns = entries.map(([, column]) => column);
    const sql = `INSERT INTO ${this.#table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`;
    await this.db.write((writer) => writer.run(sql, ...values));
  }

  /** One that is revoked already keeps its first date. Null when there is none of that id. */
  async revoke(id: string, at: string): Promise<T | null> {
    const sql = `UPDATE ${this.#table} SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL`;
    await this.db.write((writer) => writer.run(sql, at, id));
    return this.find(id);
  }

  /** @param tail what follows in the statement, from WHERE on */
  protected select(tail: string, ...values: readonly string[]): T[] {
    const columns = Object.entries<string>(this.#columns).map(([field, column]) => `${column} AS "${field}"`);
    const rows = this.db.all<T>(`SELECT ${columns.join(', ')} FROM ${this.#table} ${tail}`, ...values);
    // Those of the database are objects without a prototype.
    return rows.map((row) => ({ ...row }));
  }
}
