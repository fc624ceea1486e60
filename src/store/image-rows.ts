import type { Database } from './database.ts';

/** Any image record: its id, name and directory are columns, the whole is kept as JSON. */
interface Identified {
  readonly id: string;
  readonly name: string;
  readonly directory: string;
}

/** The image table. At most one row is the default; an index holds that. */
export class ImageRows<T extends Identified> {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<readonly T[]> {
    const rows = await this.#db.selectFrom('images').select('record').orderBy('seq').execute();
    return rows.map((row) => JSON.parse(row.record) as T);
  }

  async insert(record: T): Promise<void> {
    await this.#db
      .insertInto('images')
      .values({ ...toRow(record), is_default: 0 })
      .execute();
  }

  async update(record: T): Promise<void> {
    await this.#db.updateTable('images').set(toRow(record)).where('id', '=', record.id).execute();
  }

  async delete(id: string): Promise<void> {
    await this.#db.deleteFrom('images').where('id', '=', id).execute();
  }

  async getDefault(): Promise<string | null> {
    const row = await this.#db.selectFrom('images').select('id').where('is_default', '=', 1).executeTakeFirst();
    return row?.id ?? null;
  }

  async setDefault(id: string): Promise<void> {
    await this.#db.transaction().execute(async (trx) => {
      await trx.updateTable('images').set({ is_default: 0 }).where('is_default', '=', 1).execute();
      const { numUpdatedRows } = await trx
        .updateTable('images')
        .set({ is_default: 1 })
        .where('id', '=', id)
        .executeTakeFirstOrThrow();
      if (numUpdatedRows !== 1n) throw new Error('no such image');
    });
  }
}

function toRow({ id, name, directory, ...rest }: Identified) {
  return { id, name, directory, record: JSON.stringify({ id, name, directory, ...rest }) };
}
