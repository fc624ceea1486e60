import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { until } from '../common/testing/until.ts';
import { sampleVm } from '../vm/testing/sample-vm.ts';
import { Database, openDatabase } from './database.ts';
import { LogSync } from './log-sync.ts';
import { type OperationKind, VmStore } from './vm-store.ts';

const vm = sampleVm(1);

let dir: string;
let path: string;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'berth-durability-'));
  path = join(dir, 'berth.db');
  const db = openDatabase(path);
  await new VmStore(db).insert(vm, null);
  db.close();
});
afterEach(() => rmSync(dir, { recursive: true }));

/** The database of a host whose disk ends each sync as it is told. */
function slowDatabase(onLost: (error: unknown) => void = () => {}) {
  const connection = new DatabaseSync(path);
  connection.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE; COMMIT');
  const ends: ((error: Error | null) => void)[] = [];
  const log = new LogSync(`${path}-wal`, (_file, done) => ends.push(done));
  return { db: new Database(connection, log, onLost), ends };
}

const operation = (kind: OperationKind) => ({ vmId: vm.id, kind, detail: {}, startedAt: vm.createdAt });

/** Each says whether the caller waits for the disk. */
describe('what is written of VMs', () => {
  const calls: Readonly<Record<string, (store: VmStore) => Promise<unknown>>> = {
    'a VM that is only noted waits': (store) => store.insert(sampleVm(2), null),
    'a VM that is built does not': (store) => store.insert(sampleVm(2), operation('create')),
    ...Object.fromEntries(
      (['create', 'start', 'stop'] as const).map((kind) => [
        `the intent to ${kind} does not`,
        (store: VmStore) => store.begin(vm, operation(kind)),
      ]),
    ),
    ...Object.fromEntries(
      (['remove', 'resize', 'snapshot', 'merge'] as const).map((kind) => [
        `the intent to ${kind} waits`,
        (store: VmStore) => store.begin(vm, operation(kind)),
      ]),
    ),
    'an outcome waits': (store) => store.finish(vm),
    'the outcome of a start does not': (store) => store.finish(vm, 'relaxed'),
    'that files are whole waits': (store) => store.keep(vm.id, 'boot'),
    'that files are about to go waits': (store) => store.forsake(vm.id),
    'whoever asks for all of it waits': (store) => store.settled(),
    'that copies are seen waits': (store) => store.reveal([vm.id]),
    'the end of a VM waits': (store) => store.delete(vm.id),
    'that a VM is parked does not': (store) => store.setParked(vm.id, true),
  };
  for (const [name, call] of Object.entries(calls)) {
    it(name, async () => {
      const { db, ends } = slowDatabase();
      const store = new VmStore(db);
      let isTold = false;
      const told = call(store).then(() => {
        isTold = true;
      });
      await until('it is told, or waits', () => isTold || ends.length > 0);
      await turn();
      assert.equal(isTold, / does not/.test(name));
      for (let end = ends.shift(); end !== undefined; end = ends.shift()) end(null);
      await told;
      db.close();
    });
  }

  it('is durable soon where nobody waits for it', async () => {
    const { db, ends } = slowDatabase();
    await new VmStore(db).finish(vm, 'relaxed');
    assert.equal(ends.length, 1);
    ends[0]?.(null);
    db.close();
  });
});

describe('a disk that does not take what was written', () => {
  it('is told of once, and nothing is durable any more', async () => {
    const told: unknown[] = [];
    const { db, ends } = slowDatabase((error) => told.push(error));
    const store = new VmStore(db);
    const first = assert.rejects(store.settled(), /EIO/);
    await until('it waits', () => ends.length > 0);
    ends[0]?.(new Error('EIO'));
    await first;
    await assert.rejects(store.keep(vm.id, 'boot'), /EIO/);
    await store.finish(vm, 'relaxed');
    await turn();
    assert.deepEqual(told.map(String), ['Error: EIO']);
    db.close();
  });
});

it('the log that is synced is that of the database', () => {
  const db = openDatabase(path);
  const links = readdirSync('/proc/self/fd').map((fd) => linkOf(fd));
  // SQLite's own, and the one that is synced.
  assert.equal(links.filter((link) => link === `${path}-wal`).length, 2);
  db.close();
});

function linkOf(descriptor: string): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return null;
  }
}
