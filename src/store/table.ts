import type { Reader, Writer } from './database.ts';

/** Rows of one table by names of columns; what the database fills in by itself is none of these. */
export class Table<Row extends object> {
  readonly name: string;
  readonly #columns: readonly (keyof Row & string)[];
  readonly #insert: string;
  readonly #assignments: string;

  constructor(name: string, columns: readonly (keyof Row & string)[]) {
    this.name = name;
    this.#columns = columns;
    this.#insert = `INSERT INTO ${name} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`;
    this.#assignments = columns.map((column) => `${column} = ?`).join(', ');
  }

  /** All columns, `seq` included; `tail` is what follows in the statement, from WHERE on. */
  select(reader: Reader, tail: string, ...values: readonly (string | number)[]): Row[] {
    return reader.all<Row>(`SELECT * FROM ${this.name} ${tail}`, ...values);
  }

  /** The number that the row was given. */
  insert(writer: Writer, row: Row): number {
    return writer.run(this.#insert, ...this.#values(row)).lastInsertRowid;
  }

  /** As {@link insert}, in the place of a row that has the same `key`. */
  replace(writer: Writer, key: keyof Row & string, row: Row): void {
    const sql = `${this.#insert} ON CONFLICT (${key}) DO UPDATE SET ${this.#assignments}`;
    const values = this.#values(row);
    writer.run(sql, ...values, ...values);
  }

  /** Sets every column of the rows that `where` describes. */
  update(writer: Writer, row: Row, where: string, ...values: readonly (string | number)[]): void {
    writer.run(`UPDATE ${this.name} SET ${this.#assignments} WHERE ${where}`, ...this.#values(row), ...values);
  }

  #values(row: Row): (string | number | null)[] {
    return this.#columns.map((column) => row[column] as string | number | null);
  }
}
