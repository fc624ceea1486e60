import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { CustomerTokenTable } from './schema.ts';

/** A customer's token: the hash of the whole, never the secret. Times are ISO 8601. */
export interface StoredCustomerToken {
  readonly id: string;
  readonly customer: string;
  /** What the operator calls it; may be empty. */
  readonly name: string;
  readonly hash: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
}

export class CustomerTokenRows {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Oldest first; of one customer when one is given. */
  async list(customer: string | null): Promise<readonly StoredCustomerToken[]> {
    const all = this.#db.selectFrom('customer_tokens').selectAll().orderBy('created_at').orderBy('id');
    const rows = await (customer === null ? all : all.where('customer', '=', customer)).execute();
    return rows.map(fromRow);
  }

  async find(id: string): Promise<StoredCustomerToken | null> {
    const row = await this.#db.selectFrom('customer_tokens').selectAll().where('id', '=', id).executeTakeFirst();
    return row ? fromRow(row) : null;
  }

  async insert(token: StoredCustomerToken): Promise<void> {
    await this.#db
      .insertInto('customer_tokens')
      .values({
        id: token.id,
        customer: token.customer,
        name: token.name,
        hash: token.hash,
        created_at: token.createdAt,
        expires_at: token.expiresAt,
        revoked_at: token.revokedAt,
      })
      .execute();
  }

  /** A token that is revoked already keeps its first date. Null when there is none of that id. */
  async revoke(id: string, at: string): Promise<StoredCustomerToken | null> {
    await this.#db
      .updateTable('customer_tokens')
      .set({ revoked_at: at })
      .where('id', '=', id)
      .where('revoked_at', 'is', null)
      .execute();
    return this.find(id);
  }
}

function fromRow(row: Selectable<CustomerTokenTable>): StoredCustomerToken {
  return {
    id: row.id,
    customer: row.customer,
    name: row.name,
    hash: row.hash,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
  };
}
