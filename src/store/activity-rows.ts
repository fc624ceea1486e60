import { setImmediate as immediate } from 'node:timers/promises';
import type { Database } from './database.ts';
import { commitRelaxed } from './relaxed-commit.ts';

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
    await commitRelaxed(this.#db, async (trx) => {
      const { insertId } = await trx
        .insertInto('activity')
        .values({
          id: activity.id,
          at: activity.createdAt,
          type: activity.type,
          entity_type: activity.entityType ?? null,
          entity_id: activity.entityId ?? null,
          message: activity.message,
          meta: activity.meta ? JSON.stringify(activity.meta) : null,
        })
        .executeTakeFirstOrThrow();
      await trx
        .deleteFrom('activity')
        .where('seq', '<=', Number(insertId) - this.#kept)
        .execute();
    });
  }

  /** Newest first. */
  async list(limit: number): Promise<readonly StoredActivity<E>[]> {
    const rows = await this.#db.selectFrom('activity').selectAll().orderBy('seq', 'desc').limit(limit).execute();
    return rows.map((row) => ({
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
