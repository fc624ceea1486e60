import { setImmediate as immediate } from 'node:timers/promises';
import type { Database } from './database.ts';
import type { ActivityRow } from './schema.ts';
import { Table } from './table.ts';

/** A line of the activity feed; the entity types are the API's. */
export interface StoredActivity<E extends string = string> {
  readonly id: string;
  readonly createdAt: string;
  readonly type: string;
  readonly entityType?: E;
  readonly entityId?: string;
  readonly message: string;
  readonly meta?: Readonly<Record<string, string | number | boolean | null>>;
}

const table = new Table<ActivityRow>('activity', ['id', 'at', 'type', 'entity_type', 'entity_id', 'message', 'meta']);

/** What happened lately, for people to read. */
export class ActivityRows<E extends string = string> {
  readonly #db: Database;
  readonly #kept: number;

  constructor(db: Database, kept = 10_000) {
    this.#db = db;
    this.#kept = kept;
  }

  async record(activity: StoredActivity<E>): Promise<void> {
    // The reply to the call that is told of goes out first.
    await immediate();
    await this.#db.write((writer) => {
      const seq = table.insert(writer, {
        id: activity.id,
        at: activity.createdAt,
        type: activity.type,
        entity_type: activity.entityType ?? null,
        entity_id: activity.entityId ?? null,
        message: activity.message,
        meta: activity.meta ? JSON.stringify(activity.meta) : null,
      });
      if (seq % Math.ceil(this.#kept / 100) === 0) writer.run('DELETE FROM activity WHERE seq <= ?', seq - this.#kept);
    }, 'relaxed');
  }

  /** Newest first. Some more than are kept may be there: they go by the hundredth part. */
  async list(limit: number): Promise<readonly StoredActivity<E>[]> {
    return table.select(this.#db, 'ORDER BY seq DESC LIMIT ?', Math.min(limit, this.#kept)).map((row) => ({
      id: row.id,
      createdAt: row.at,
      type: row.type,
      ...(row.entity_type === null ? {} : { entityType: row.entity_type as E }),
      ...(row.entity_id === null ? {} : { entityId: row.entity_id }),
      message: row.message,
      ...(row.meta === null ? {} : { meta: JSON.parse(row.meta) as NonNullable<StoredActivity['meta']> }),
    }));
  }
}
