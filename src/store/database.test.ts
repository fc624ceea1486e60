import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { isDiskFull } from '../common/errors.ts';
import { CommitQueue, type Durability } from './commit-queue.ts';
import { type Database, openDatabase, type Writer } from './database.ts';

let dir: string;
let db: Database;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'berth-database-'));
  db = openDatabase(join(dir, 'test.db'));
  await db.write((writer) => writer.run('CREATE TABLE items (name TEXT NOT NULL UNIQUE, filler BLOB) STRICT'));
});

afterEach(() => {
  db.close();
  rmSync(dir, { recursive: true });
});

const add = (name: string) => (writer: Writer) => writer.run('INSERT INTO items (name) VALUES (?)', name);
const names = (from: { all<Row>(sql: string): Row[] } = db) =>
  from.all<{ name: string }>('SELECT name FROM items ORDER BY rowid').map(({ name }) => name);

/** As another process sees it. */
function namesOnDisk(): string[] {
  using other = new DatabaseSync(join(dir, 'test.db'), { readOnly: true });
  return (other.prepare('SELECT name FROM items ORDER BY rowid').all() as { name: string }[]).map(({ name }) => name);
}

/** A queue whose commits reach the disk when the test says so. */
function queueOverSlowDisk() {
  const syncs: PromiseWithResolvers<void>[] = [];
  const connection = new DatabaseSync(join(dir, 'slow.db'));
  const queue = new CommitQueue(connection, () => {
    const sync = Promise.withResolvers<void>();
    syncs.push(sync);
    return sync.promise;
  });
  return { queue, syncs };
}

describe('changes', () => {
  it('that are asked for together are made in order, and are all there once one is reported', async () => {
    const first = db.write(add('a'));
    const others = [db.write(add('b')), db.write((writer) => names(writer))];
    assert.deepEqual(names(), [], 'nothing is seen before it is committed');
    await first;
    assert.deepEqual(namesOnDisk(), ['a', 'b']);
    assert.deepEqual(await others[1], ['a', 'b']);
  });

  it('that fail take nothing of those beside them along, and leave nothing of themselves', async () => {
    const outcomes = await Promise.allSettled([
      db.write(add('a')),
      db.write((writer) => {
        add('half')(writer);
        throw new Error('changed its mind');
      }),
      db.write(add('a')),
      db.write(add('b')),
    ]);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'rejected', 'rejected', 'fulfilled'],
    );
    assert.match(String((outcomes[1] as PromiseRejectedResult).reason), /changed its mind/);
    assert.match(String((outcomes[2] as PromiseRejectedResult).reason), /UNIQUE/);
    assert.deepEqual(namesOnDisk(), ['a', 'b']);
  });

  it('that the disk has no room for fail alone', async () => {
    db.get('PRAGMA max_page_count = 1');
    const tooLarge = (writer: Writer) => writer.run("INSERT INTO items VALUES ('large', zeroblob(8000000))");
    const outcomes = await Promise.allSettled([db.write(add('a')), db.write(tooLarge), db.write(add('b'))]);
    assert.deepEqual(
      outcomes.map((outcome) => (outcome.status === 'rejected' ? isDiskFull(outcome.reason) : 'done')),
      ['done', true, 'done'],
    );
    assert.deepEqual(namesOnDisk(), ['a', 'b']);
  });

  it('that end the transaction of all when they fail are not in the way of others', async () => {
    const attempts: string[] = [];
    const noting = (name: string, inner: (writer: Writer) => void) => (writer: Writer) => {
      attempts.push(name);
      inner(writer);
    };
    const outcomes = await Promise.allSettled([
      db.write(noting('a', add('a'))),
      db.write(
        noting('end', (writer) => {
          writer.run('ROLLBACK');
          throw new Error('as SQLite does when the disk fails it');
        }),
      ),
      db.write(noting('b', add('b'))),
    ]);
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    assert.deepEqual(attempts, ['a', 'end', 'a', 'end', 'b']);
    assert.deepEqual(namesOnDisk(), ['a', 'b']);
  });

  it('are reported when they are on the disk, if they are durable, and those beside them at once', async () => {
    const { queue, syncs } = queueOverSlowDisk();
    const reported: string[] = [];
    const change = (name: string, durability: Durability) =>
      queue.add(() => name, durability).then((told) => reported.push(told));
    const all = [change('relaxed', 'relaxed'), change('durable', 'durable'), change('durable too', 'durable')];
    await all[0];
    await turn();
    assert.deepEqual([reported, syncs.length], [['relaxed'], 1]);
    syncs[0]?.resolve();
    await Promise.all(all);
    assert.deepEqual(reported, ['relaxed', 'durable', 'durable too']);
    await change('alone', 'relaxed');
    assert.equal(syncs.length, 1);
  });

  it('that come while the disk is busy are committed together once it is not, unless they need not wait for it', async () => {
    const { queue, syncs } = queueOverSlowDisk();
    const made: string[] = [];
    const change = (name: string, durability: Durability) => queue.add(() => made.push(name), durability);
    const first = change('first', 'durable');
    await turn();
    const next = [change('next', 'durable'), change('another', 'durable')];
    await turn();
    assert.deepEqual(made, ['first']);
    syncs[0]?.resolve();
    await first;
    await turn();
    assert.deepEqual([made, syncs.length], [['first', 'next', 'another'], 2]);
    const last = change('last', 'durable');
    await change('at once', 'relaxed');
    assert.deepEqual(made.slice(3), ['last', 'at once']);
    for (const sync of syncs) sync.resolve();
    await Promise.all([...next, last]);
  });

  it('fail when the disk does not take them', async () => {
    const { queue, syncs } = queueOverSlowDisk();
    const outcome = assert.rejects(
      queue.add(() => {}, 'durable'),
      /EIO/,
    );
    await turn();
    syncs[0]?.reject(new Error('EIO'));
    await outcome;
  });

  it('that wait are committed when the database is closed', async () => {
    const last = db.write(add('last'));
    db.close();
    await last;
    db = openDatabase(join(dir, 'test.db'));
    assert.deepEqual(names(), ['last']);
  });
});
