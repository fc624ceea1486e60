import type { Database } from './database.ts';
import type { ImageRow } from './schema.ts';
import { Table } from './table.ts';

/** Any image record: its id, name and directory are columns, the whole is kept as JSON. */
interface Identified {
  readonly id: string;
  readonly name: string;
  readonly directory: string;
}

/** Which image is the default is a column of its own, 0 unless it is set. */
const table = new Table<ImageRow>('images', ['id', 'name', 'directory', 'record']);

/** The image table. At most one row is the default; an index holds that. */
export class ImageRows<T extends Identified> {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  async list(): Promise<readonly T[]> {
    return table.select(this.#db, 'ORDER BY seq').map((row) => JSON.parse(row.record) as T);
  }

  async insert(record: T): Promise<void> {
    await this.#db.write((writer) => table.insert(writer, toRow(record)));
  }

  async update(record: T): Promise<void> {
    await this.#db.write((writer) => table.update(writer, toRow(record), 'id = ?', record.id));
  }

  async delete(id: string): Promise<void> {
    await this.#db.write((writer) => writer.run('DELETE FROM images WHERE id = ?', id));
  }

  async getDefault(): Promise<string | null> {
    return this.#db.get<{ id: string }>('SELECT id FROM images WHERE is_default = 1')?.id ?? null;
  }

  async setDefault(id: string): Promise<void> {
    await this.#db.write((writer) => {
      writer.run('UPDATE images SET is_default = 0 WHERE is_default = 1');
      if (writer.run('UPDATE images SET is_default = 1 WHERE id = ?', id).changes !== 1)
        throw new Error('no such image');
    });
  }
}

function toRow({ id, name, directory, ...rest }: Identified): ImageRow {
  return { id, name, directory, record: JSON.stringify({ id, name, directory, ...rest }) };
}
