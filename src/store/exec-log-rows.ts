import { setImmediate as immediate } from 'node:timers/promises';
import type { Database } from './database.ts';
import { commitRelaxed } from './relaxed-commit.ts';

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
    await commitRelaxed(this.#db, async (trx) => {
      await trx
        .insertInto('exec_log')
        .values({
          id: entry.id,
          vm_id: vmId,
          type: entry.type,
          at: entry.timestamp,
          duration_ms: Math.round(entry.durationMs),
          input: entry.input,
          result: entry.result,
        })
        .execute();
      const oldest = await trx
        .selectFrom('exec_log')
        .select('seq')
        .where('vm_id', '=', vmId)
        .orderBy('seq', 'desc')
        .offset(this.#keptPerVm)
        .limit(1)
        .executeTakeFirst();
      if (oldest) await trx.deleteFrom('exec_log').where('vm_id', '=', vmId).where('seq', '<=', oldest.seq).execute();
    });
  }

  /** Newest first. */
  async list(
    vmId: string,
    query: { readonly limit: number; readonly type: T | null },
  ): Promise<{ readonly entries: readonly StoredExecution<T>[]; readonly hasMore: boolean }> {
    let select = this.#db
      .selectFrom('exec_log')
      .selectAll()
      .where('vm_id', '=', vmId)
      .orderBy('seq', 'desc')
      .limit(query.limit + 1);
    if (query.type !== null) select = select.where('type', '=', query.type);
    const rows = await select.execute();
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
