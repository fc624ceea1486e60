import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { Vm } from '../vm/model.ts';
import { sampleVm } from '../vm/testing/sample-vm.ts';
import { ActivityRows } from './activity-rows.ts';
import { ApiKeyRows } from './api-key-rows.ts';
import { type Database, openDatabase } from './database.ts';
import { ExecLogRows } from './exec-log-rows.ts';
import { LockedError, lockHome } from './lock.ts';
import { NewerSchemaError } from './migrations.ts';
import { type Operation, VmStore } from './vm-store.ts';

let dir: string;
let db: Database;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'berth-store-'));
  db = openDatabase(join(dir, 'berth.db'));
});

afterEach(async () => {
  db.close();
  rmSync(dir, { recursive: true });
});

function vm(n: number, change: Partial<Vm> = {}): Vm {
  return sampleVm(n, {
    state: 'starting',
    addresses: { ipv4: `10.0.0.${n}`, ipv6: `fd00::${n}`, mac: `02:00:00:00:00:0${n}`, tap: `tap${n}` },
    egress: { outbound: true, allow: ['10.0.0.0/8'] },
    labels: { purpose: 'test' },
    parkAfterSeconds: 60,
    parked: false,
    hidden: false,
    renewal: null,
    ...change,
  });
}

function operation(n: number, kind: Operation['kind'] = 'create'): Operation {
  return { vmId: `vm-${n}`, kind, detail: { layer: 'x', force: 1, none: null }, startedAt: '2026-01-01T00:00:00.000Z' };
}

describe('VM store', () => {
  it('gives back what was written, oldest first', async () => {
    const store = new VmStore(db);
    await store.insert(vm(2), operation(2));
    await store.insert(vm(1), null);
    assert.deepEqual(await store.list(), [vm(2), vm(1)]);
    assert.deepEqual(await store.operations(), [operation(2)]);
  });

  it('keeps the note that a VM is parked while operations come and go, until it no longer runs', async () => {
    const store = new VmStore(db);
    const running = vm(1, { state: 'running' });
    await store.insert(running, null);
    await store.setParked('vm-1', true);
    await store.update({ ...running, name: 'other' });
    assert.deepEqual(await store.list(), [{ ...running, name: 'other', parked: true }]);
    await store.begin({ ...running, state: 'stopping', parked: true }, operation(1, 'stop'));
    assert.deepEqual(await store.list(), [{ ...running, state: 'stopping', parked: false }]);
  });

  for (const [lease, clash] of [
    ['IPv4 address', { addresses: { ...vm(2).addresses, ipv4: '10.0.0.1' } }],
    ['IPv6 address', { addresses: { ...vm(2).addresses, ipv6: 'fd00::1' } }],
    ['MAC', { addresses: { ...vm(2).addresses, mac: '02:00:00:00:00:01' } }],
    ['tap', { addresses: { ...vm(2).addresses, tap: 'tap1' } }],
    ['uid', { uid: 300_001 }],
    ['id', { id: 'vm-1' }],
  ] as const) {
    it(`refuses a second holder of the same ${lease} and keeps nothing of it`, async () => {
      const store = new VmStore(db);
      await store.insert(vm(1), null);
      await assert.rejects(store.insert(vm(2, clash), operation(2)), /UNIQUE/);
      assert.deepEqual(await store.list(), [vm(1)]);
      assert.deepEqual(await store.operations(), []);
    });
  }

  it('frees the leases of a deleted VM', async () => {
    const store = new VmStore(db);
    await store.insert(vm(1), operation(1));
    await store.delete('vm-1');
    assert.deepEqual(await store.operations(), []);
    await store.insert(vm(1), null);
    assert.equal((await store.list()).length, 1);
  });

  it('changes row and journal together', async () => {
    const store = new VmStore(db);
    await store.insert(vm(1), null);
    await store.begin(vm(1, { state: 'stopping' }), operation(1, 'stop'));
    assert.equal((await store.list())[0]?.state, 'stopping');
    assert.equal((await store.operations())[0]?.kind, 'stop');
    await store.begin(vm(1, { state: 'removing' }), operation(1, 'remove'));
    assert.deepEqual(await store.operations(), [operation(1, 'remove')]);
    await store.finish(vm(1, { state: 'stopped' }));
    assert.equal((await store.list())[0]?.state, 'stopped');
    assert.deepEqual(await store.operations(), []);
  });
});

describe('logs', () => {
  it('keep the newest commands of each VM, say when there are more, and go with their VM', async () => {
    const rows = new ExecLogRows(db, 3);
    for (let n = 1; n <= 5; n++)
      await rows.append('vm-1', {
        id: `${n}`,
        timestamp: '',
        type: n % 2 ? 'exec' : 'run-ts',
        durationMs: 1.6,
        input: '{}',
        result: '{}',
      });
    await rows.append('vm-2', { id: 'other', timestamp: '', type: 'exec', durationMs: 1, input: '{}', result: '{}' });
    const all = await rows.list('vm-1', { limit: 10, type: null });
    assert.deepEqual(
      all.entries.map((entry) => entry.id),
      ['5', '4', '3'],
    );
    assert.equal(all.hasMore, false);
    const newest = await rows.list('vm-1', { limit: 1, type: 'exec' });
    assert.deepEqual([newest.entries.map((entry) => entry.id), newest.hasMore], [['5'], true]);
    await new VmStore(db).delete('vm-1');
    assert.equal((await rows.list('vm-1', { limit: 10, type: null })).entries.length, 0);
    assert.equal((await rows.list('vm-2', { limit: 10, type: null })).entries.length, 1);
  });

  it('are written while VMs change, and neither holds up the other', async () => {
    const store = new VmStore(db);
    const rows = new ExecLogRows(db);
    const entry = { timestamp: '', type: 'exec', durationMs: 1, input: '{}', result: '{}' };
    await Promise.all(
      Array.from({ length: 20 }, (_, n) => [
        store.insert(vm(n + 1), operation(n + 1)),
        rows.append('vm-1', { ...entry, id: `${n}` }),
      ]).flat(),
    );
    assert.equal((await store.list()).length, 20);
    assert.equal((await rows.list('vm-1', { limit: 50, type: null })).entries.length, 20);
  });

  it('keep the newest activity', async () => {
    const rows = new ActivityRows(db, 2);
    for (const id of ['a', 'b', 'c'])
      await rows.record({
        id,
        createdAt: 'now',
        type: 'vm.created',
        entityType: 'vm',
        entityId: id,
        message: 'm',
        meta: { cpu: 1 },
      });
    const kept = await rows.list(10);
    assert.deepEqual(
      kept.map((activity) => activity.id),
      ['c', 'b'],
    );
    assert.deepEqual(kept[0]?.meta, { cpu: 1 });
  });
});

describe('API keys', () => {
  it('are found by prefix, and revoked once', async () => {
    const rows = new ApiKeyRows(db);
    const key = {
      id: 'k',
      name: 'n',
      prefix: 'p',
      hash: 'h',
      createdAt: '1',
      expiresAt: null,
      revokedAt: null,
      lastUsedAt: null,
    };
    await rows.insert(key);
    assert.deepEqual(await rows.findByPrefix('p'), key);
    assert.equal(await rows.findByPrefix('q'), null);
    await rows.touch('k', '2');
    assert.equal((await rows.revoke('k', '3'))?.revokedAt, '3');
    assert.equal((await rows.revoke('k', '4'))?.revokedAt, '3');
    assert.equal(await rows.revoke('unknown', '5'), null);
  });
});

describe('the data directory', () => {
  it('is readable by its owner only', () => {
    assert.equal(statSync(join(dir, 'berth.db')).mode & 0o077, 0);
  });

  it('of the first version keeps its VMs, their leases, their order and what was under way', async () => {
    const path = join(dir, 'first.db');
    const first = new DatabaseSync(path);
    first.exec(readFileSync(new URL('./testing/version-1.sql', import.meta.url), 'utf8'));
    first.close();
    const upgraded = openDatabase(path);
    try {
      const store = new VmStore(upgraded);
      const addresses = { ...sampleVm(3).addresses, ipv6: null };
      assert.deepEqual(await store.list(), [sampleVm(2), sampleVm(3, { addresses })]);
      assert.deepEqual(
        (await store.operations()).map(({ vmId, kind }) => [vmId, kind]),
        [['vm-3', 'stop']],
      );
      await assert.rejects(store.insert(sampleVm(4, { addresses: sampleVm(2).addresses }), null), /UNIQUE/);
      await store.insert(sampleVm(4), null);
      await store.delete('vm-2');
      assert.deepEqual(
        (await store.list()).map(({ id }) => id),
        ['vm-3', 'vm-4'],
      );
      await store.insert(sampleVm(2), null);
    } finally {
      upgraded.close();
    }
  });

  it('can be written to while its disk is full: its files are large enough from the start', async () => {
    const sizes = () => ['berth.db', 'berth.db-wal'].map((name) => statSync(join(dir, name)).size);
    const before = sizes();
    const store = new VmStore(db);
    for (let n = 1; n < 10; n++) await store.insert(vm(n), operation(n));
    for (let n = 1; n < 10; n++) await store.delete(`vm-${n}`);
    assert.deepEqual(sizes(), before);
  });

  it('of a newer version is refused and left as it is', async () => {
    const path = join(dir, 'newer.db');
    const newer = new DatabaseSync(path);
    newer.exec('PRAGMA user_version = 999');
    newer.close();
    assert.throws(() => openDatabase(path), NewerSchemaError);
  });

  it('has one owner at a time, and none once that process is gone', () => {
    const take = `import { lockHome } from ${JSON.stringify(new URL('./lock.ts', import.meta.url).href)};
      lockHome(${JSON.stringify(dir)}); process.kill(process.pid, 'SIGKILL');`;
    assert.throws(() => execFileSync(process.execPath, ['--input-type=module', '-e', take], { stdio: 'ignore' }));
    const lock = lockHome(dir);
    assert.throws(() => lockHome(dir), LockedError);
    lock.release();
    lockHome(dir).release();
  });
});
