import assert from 'node:assert/strict';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../common/testing/until.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small, smallShape } from './testing/fake-fixtures.ts';
import type { FakeHost } from './testing/fake-host.ts';

const count = 20;

describe('a daemon that comes after another', () => {
  let host: FakeHost;
  let vms: Vms;
  let ids: readonly string[];

  const reopen = daemonPerTest(
    (daemon) => ({ host, vms } = daemon),
    () => ({ quotas: { maxVms: count + 1 } }),
  );
  beforeEach(async () => {
    ids = (await Promise.all(Array.from({ length: count }, () => vms.create(small)))).map(({ id }) => id);
    await vms.close();
    host.observed.length = 0;
  });

  /** Begins to open the service, and resolves when it looks at the first VMs, which do not answer until told to. */
  async function openUntilObserving() {
    const answer = Promise.withResolvers<void>();
    host.waiting.set('observe', answer.promise);
    const opening = reopen();
    await until('the first is looked at', () => host.observed.length > 0);
    await sleep(50);
    return { opening, answer: answer.resolve };
  }

  it('looks at several VMs at a time, but not at all', async () => {
    const { opening, answer } = await openUntilObserving();
    assert.equal(host.observed.length, 8);
    answer();
    await opening;
    assert.deepEqual(host.observed.toSorted(), ids.toSorted());
    assert.deepEqual(
      vms.list().filter(({ state }) => state !== 'running'),
      [],
    );
  });

  it('notices a VM that ends while it looks at others', async () => {
    const { opening, answer } = await openUntilObserving();
    // The first have been seen alive when this one's answer is still due.
    const last = Promise.withResolvers<void>();
    host.waiting.set('observe', last.promise);
    answer();
    await until('the next is looked at', () => host.observed.length > 8);
    const [first = ''] = host.observed;
    host.end(first, 'shutdown');
    last.resolve();
    await opening;
    await until('its end is noticed', () => !['running', 'stopping'].includes(vms.get(first).state));
    assert.deepEqual([vms.get(first).state, vms.get(first).reason], ['stopped', 'powered off by its guest']);
  });

  it('ends and removes what belongs to no VM that anybody has', async () => {
    const [hidden = '', other = ''] = ids;
    // Kept ready, or of a fork that was cut off.
    await host.db.write((writer) => writer.run('UPDATE vms SET hidden = 1 WHERE id = ?', hidden));
    host.processes.set('stranger', 'running');
    await mkdir(join(host.home, 'vms', 'stranger'));
    await mkdir(join(host.home, 'snapshots', 'snap-stranger'));
    await reopen();
    const left = ids.filter((id) => id !== hidden).toSorted();
    assert.deepEqual([...host.processes.keys()].toSorted(), left);
    assert.deepEqual((await readdir(join(host.home, 'vms'))).toSorted(), left);
    assert.deepEqual(await readdir(join(host.home, 'snapshots')), []);
    assert.equal(vms.get(other).state, 'running');
  });

  it('lets a VM go on that was being captured, but not one that stands still for another reason', async () => {
    const [captured = '', parked = '', paused = ''] = ids;
    await host.db.write((writer) => {
      writer.run('UPDATE vms SET parked = 1 WHERE id = ?', parked);
      writer.run("UPDATE vms SET state = 'paused' WHERE id = ?", paused);
      for (const id of [captured, parked, paused])
        writer.run(
          "INSERT INTO operations (vm_id, kind, detail, started_at) VALUES (?, 'snapshot', '{}', '2026-01-01T00:00:00.000Z')",
          id,
        );
    });
    for (const id of [captured, parked, paused]) host.processes.set(id, 'paused');
    await reopen();
    assert.deepEqual(
      [captured, parked, paused].map((id) => [vms.get(id).state, vms.get(id).parked, host.processes.get(id)]),
      [
        ['running', false, 'running'],
        ['running', true, 'paused'],
        ['paused', false, 'paused'],
      ],
    );
    assert.deepEqual(host.db.all('SELECT * FROM operations'), []);
    // The others have stood still for their own reasons, and are told when they go on.
    assert.deepEqual(
      host.calls.filter(({ name }) => name === 'setClock').map(({ id }) => id),
      [captured],
    );
  });

  it('does not look for processes of VMs that should have none', async () => {
    await reopen();
    const [stopped = ''] = ids;
    await vms.stop(stopped, { force: true });
    await vms.close();
    host.observed.length = 0;
    await reopen();
    assert.equal(host.observed.includes(stopped), false);
    assert.equal(host.observed.length, count - 1);
  });
});

describe('a VM whose start was cut off', () => {
  let host: FakeHost;
  let vms: Vms;

  const reopen = daemonPerTest((daemon) => ({ host, vms } = daemon));

  const journal = () => host.db.all<{ detail: string; kind: string }>('SELECT kind, detail FROM operations');
  const wholeSince = () => JSON.parse(journal()[0]?.detail ?? '{}').wholeSince;

  /** Leaves things as they are while the guest of `id` comes up, at the latest moment, and opens the service again. */
  async function cutOff(start: () => Promise<{ readonly id: string }>, change: { readonly isWhole: boolean }) {
    let operation = journal()[0];
    host.onCall = async (name) => {
      if (name !== 'ready') return;
      await until('its files are whole', () => wholeSince() !== undefined);
      operation = journal()[0];
    };
    const { id } = await start();
    host.onCall = () => {};
    await vms.close();
    host.processes.clear();
    const detail = { ...JSON.parse(operation?.detail ?? '{}'), ...(change.isWhole ? {} : { wholeSince: undefined }) };
    await host.db.write((writer) => {
      writer.run("UPDATE vms SET state = 'starting' WHERE id = ?", id);
      const values = [id, operation?.kind ?? '', JSON.stringify(detail), '2026-01-01T00:00:00.000Z'];
      writer.run('INSERT INTO operations (vm_id, kind, detail, started_at) VALUES (?, ?, ?, ?)', ...values);
    });
    await reopen();
    const files = await readdir(join(host.home, 'vms'));
    return { vm: vms.list().find((vm) => vm.id === id) ?? null, files };
  }

  for (const [name, start] of [
    ['create', () => vms.create({ ...small, id: 'one' })],
    [
      'first start',
      async () => {
        await vms.create({ ...small, id: 'one', start: false });
        return vms.start('one');
      },
    ],
  ] as const) {
    it(`by the end of the host during its ${name} is there, for its client may have used it`, async () => {
      host.hostBoot = 'second';
      const { vm, files } = await cutOff(start, { isWhole: true });
      assert.deepEqual([vm?.state, vm?.reason, files], ['stopped', 'the host went down', ['one']]);
      assert.deepEqual(journal(), []);
      assert.equal((await vms.start('one')).state, 'running');
    });

    it(`by the end of the daemon during its ${name} is as before, for nobody was told of it`, async () => {
      const { vm, files } = await cutOff(start, { isWhole: true });
      assert.deepEqual([vm?.state ?? 'gone', files], [name === 'create' ? 'gone' : 'created', []]);
    });

    it(`by the end of the host before its files were on the disk is as before its ${name}`, async () => {
      host.hostBoot = 'second';
      const { vm, files } = await cutOff(start, { isWhole: false });
      assert.deepEqual([vm?.state ?? 'gone', files], [name === 'create' ? 'gone' : 'created', []]);
    });
  }

  it('is nothing that is kept once its files were to go, whatever becomes of the host', async () => {
    host.onCall = async (name) => {
      if (name === 'ready') await until('its files are whole', () => wholeSince() !== undefined);
      if (name === 'ready' || name === 'destroy') throw new Error('it is a test');
    };
    await assert.rejects(vms.create(small));
    assert.deepEqual([vms.list().map(({ state }) => state), wholeSince()], [['failed'], undefined]);
    host.onCall = () => {};
    host.hostBoot = 'second';
    host.processes.clear();
    await reopen();
    assert.deepEqual([vms.list(), await readdir(join(host.home, 'vms')), journal()], [[], [], []]);
  });

  it('starts anew where the host has forgotten all but its files', async () => {
    await vms.create({ ...small, id: 'one', start: false });
    const dir = join(host.home, 'vms', 'one');
    await mkdir(dir);
    await writeFile(join(dir, 'manifest.json'), '');
    assert.equal((await vms.start('one')).state, 'running');
  });

  it('is whole from the beginning where it was kept ready', async () => {
    await reopen({ settings: { spares: { waiting: 1, ready: 0 } } });
    await vms.warm(smallShape);
    await vms.create(small);
    const spares = () => host.db.all("SELECT id FROM vms WHERE hidden = 1 AND state = 'paused'");
    await until('a spare stands by', () => spares().length > 0);
    let mark: unknown;
    host.onCall = (name) => {
      if (name === 'become') mark ??= wholeSince();
    };
    await vms.create(small);
    assert.equal(mark, host.hostBoot);
  });
});
