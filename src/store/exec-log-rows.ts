import { setImmediate as immediate } from 'node:timers/promises';
import type { Database } from './database.ts';
import type { ExecLogRow } from './schema.ts';
import { Table } from './table.ts';

export interface StoredExecution<T extends string = string> {
  readonly id: string;
  readonly timestamp: string;
  readonly type: T;
  readonly durationMs: number;
  /** JSON. */
  readonly input: string;
  /** JSON. */
  readonly result: string;
}

const table = new Table<ExecLogRow>('exec_log', ['id', 'vm_id', 'type', 'at', 'duration_ms', 'input', 'result']);

/** Commands that were run in VMs, the newest of each VM. */
export class ExecLogRows<T extends string = string> {
  readonly #db: Database;
  readonly #keptPerVm: number;

  constructor(db: Database, keptPerVm = 200) {
    this.#db = db;
    this.#keptPerVm = keptPerVm;
  }

  async append(vmId: string, entry: StoredExecution<T>): Promise<void> {
    // The reply to the call that is told of goes out first.
    await immediate();
    await this.#db.write((writer) => {
      table.insert(writer, {
        id: entry.id,
        vm_id: vmId,
        type: entry.type,
        at: entry.timestamp,
        duration_ms: Math.round(entry.durationMs),
        input: entry.input,
        result: entry.result,
      });
      writer.run(
        'DELETE FROM exec_log WHERE vm_id = ?1 AND seq <= (SELECT seq FROM exec_log WHERE vm_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)',
        vmId,
        this.#keptPerVm,
      );
    }, 'relaxed');
  }

  /** Newest first. */
  async list(
    vmId: string,
    query: { readonly limit: number; readonly type: T | null },
  ): Promise<{ readonly entries: readonly StoredExecution<T>[]; readonly hasMore: boolean }> {
    const ofType = query.type === null ? '' : 'AND type = ?';
    const rows = table.select(
      this.#db,
      `WHERE vm_id = ? ${ofType} ORDER BY seq DESC LIMIT ?`,
      vmId,
      ...(query.type === null ? [] : [query.type]),
      query.limit + 1,
    );
    const entries = rows.slice(0, query.limit).map((row) => ({
      id: row.id,
      timestamp: row.at,
      type: row.type as T,
      durationMs: row.duration_ms,
      input: row.input,
      result: row.result,
    }));
    return { entries, hasMore: rows.length > query.limit };
  }
}
