import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, it } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { until } from '../common/testing/until.ts';
import type { SpareSettings } from './context.ts';
import type { Quotas } from './quotas.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small, smallShape } from './testing/fake-fixtures.ts';
import type { FakeCall, FakeHost } from './testing/fake-host.ts';
import { sparesOf } from './testing/spares.ts';

describe('spares and the room there is:', () => {
  let host: FakeHost;
  let vms: Vms;

  const reopenWith = daemonPerTest((daemon) => ({ host, vms } = daemon));
  const reopen = (spares: SpareSettings, quotas: Partial<Quotas>) => reopenWith({ quotas, settings: { spares } });
  beforeEach(() => vms.warm(smallShape));

  /** Opens a daemon and waits for its spares; returns their ids. */
  async function withSpares(spares: SpareSettings, quotas: Partial<Quotas>): Promise<readonly string[]> {
    await reopen(spares, quotas);
    return sparesOf(host, spares.waiting + spares.ready);
  }

  const called = (name: FakeCall) => host.calls.filter((call) => call.name === name).map(({ id }) => id);

  it('they take none from VMs that are made, started or forked', async () => {
    const only = { maxVms: 2, maxSnapshots: 2, totalCpus: 2, totalMemoryMiB: 128, totalDiskMiB: 2 };
    await withSpares({ waiting: 0, ready: 0 }, { ...only, tenant: only });
    const { id } = await vms.create({ ...small, tenant: 'a' });
    await vms.stop(id);
    await withSpares({ waiting: 1, ready: 1 }, { ...only, tenant: only });
    await vms.start(id);
    assert.equal((await vms.fork(id, 1)).length, 1);
    await assert.rejects(vms.create(small), { code: 'quota_exceeded' });
  });

  it('they take none while they are being made', async () => {
    const only = { maxVms: 1, totalCpus: 1, totalMemoryMiB: 64 };
    const { promise, resolve } = Promise.withResolvers<void>();
    host.onCall = (name) => (name === 'prepare' && called(name).length === 1 ? promise : undefined);
    await reopen({ waiting: 1, ready: 0 }, only);
    await until('a spare is begun', () => called('prepare').length > 0);
    assert.equal((await vms.create(small)).state, 'running');
    resolve();
  });

  it('they are claimed while a template is being made, which takes none from who claims', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 }, { maxVms: 1, totalCpus: 1, totalMemoryMiB: 65 });
    const { promise, resolve } = Promise.withResolvers<void>();
    host.onCall = (name) => (name === 'capture' ? promise : undefined);
    const captures = called('capture').length;
    const warm = vms.warm({ ...smallShape, memoryMiB: 65 });
    await until('a capture begins', () => called('capture').length > captures);
    assert.equal((await vms.create(small)).id, spare);
    resolve();
    await warm;
  });

  it('those that cannot be removed when their process has ended take none, and go later', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 }, { maxVms: 2 });
    host.failing.add('destroy');
    host.end(spare!, 'crashed');
    await until('the spare is ended', () => called('destroy').includes(spare!));
    await assertGoesLater(spare!);
  });

  it('those that cannot be removed when they were of no use take none, and go later', async () => {
    const [spare] = await withSpares({ waiting: 1, ready: 0 }, { maxVms: 2 });
    host.failing.add('destroy');
    host.onCall = (name, id) => {
      if (name === 'restore' && id === spare) throw new BerthError('boot_failed');
    };
    await assertGoesLater(spare!);
  });

  /** Two VMs are all there is room for. */
  async function assertGoesLater(spare: string): Promise<void> {
    const first = await vms.create(small);
    host.failing.clear();
    const second = await vms.create(small);
    assert.deepEqual([first.state, second.state, first.id === spare], ['running', 'running', false]);
    const isThere = () => host.db.all('SELECT 1 FROM vms WHERE id = ?', spare).length > 0;
    await until('it is gone', () => !isThere());
    assert.equal((await readdir(join(host.home, 'vms'))).includes(spare), false);
  }
});
