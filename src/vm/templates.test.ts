import assert from 'node:assert/strict';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { BerthError } from '../common/errors.ts';
import { until } from '../common/testing/until.ts';
import type { Quotas } from './quotas.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small } from './testing/fake-fixtures.ts';
import type { FakeCall, FakeHost } from './testing/fake-host.ts';

const shape = (memoryMiB = 64) => ({ imageId: 'img-1', cpus: 1, memoryMiB });

describe('templates', () => {
  let host: FakeHost;
  let vms: Vms;
  /** Of the daemon that runs; may be changed under it. */
  let settings: { build: boolean; budgetBytes: number };

  beforeEach(() => {
    settings = { build: true, budgetBytes: 1e9 };
  });
  const reopen = daemonPerTest(
    (daemon) => ({ host, vms } = daemon),
    () => ({ settings: { templates: settings } }),
  );

  const rows = () =>
    host.db.all<{ id: string; memory_mib: number; bytes: number }>('SELECT id, memory_mib, bytes FROM snapshots');
  /** Memory sizes of those there are, in the store and on the disk alike. */
  async function sizes(): Promise<readonly number[]> {
    const templates = rows();
    assert.deepEqual(templates.map(({ id }) => id).sort(), (await readdir(join(host.home, 'snapshots'))).sort());
    return templates.map(({ memory_mib }) => memory_mib).sort();
  }
  const count = (name: FakeCall) => host.calls.filter((call) => call.name === name).length;
  const fail = (at: FakeCall, error: Error) => {
    host.onCall = (name) => {
      if (name === at) throw error;
    };
  };

  it('are built once, however many ask for them', async () => {
    await Promise.all([vms.warm(shape()), vms.warm(shape()), vms.create(small), vms.create(small)]);
    await vms.warm(shape());
    assert.deepEqual([await sizes(), count('capture')], [[64], 1]);
  });

  it('go when those used after them take up the budget', async () => {
    await vms.warm(shape(64));
    await vms.warm(shape(65));
    settings.budgetBytes = rows().reduce((sum, { bytes }) => sum + bytes, 0);
    // Now it is the other one that nobody has used for longest.
    await vms.create({ ...small, memoryMiB: 64 });
    await vms.warm(shape(66));
    assert.deepEqual(await sizes(), [64, 66]);
  });

  it('are kept however large they are, when there is no later one', async () => {
    settings.budgetBytes = 0;
    await vms.warm(shape(64));
    assert.deepEqual(await sizes(), [64]);
    await vms.warm(shape(65));
    assert.deepEqual(await sizes(), [65]);
  });

  it('do not go while a VM is being cloned from them, when others take up the budget', async () => {
    settings.budgetBytes = 0;
    await vms.warm(shape(64));
    const [captured, restored] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    host.onCall = (name) => (name === 'capture' ? captured.promise : name === 'restore' ? restored.promise : undefined);
    const warm = vms.warm(shape(65));
    await until('another capture begins', () => count('capture') > 1);
    const clone = vms.create(small);
    await until('a clone is restored', () => count('restore') > 0);
    captured.resolve();
    await warm;
    assert.deepEqual(await sizes(), [64, 65]);
    restored.resolve();
    assert.equal((await clone).startMode, 'clone');
  });

  it('do not go while a VM is being cloned from them, when another one cannot be', async () => {
    await vms.warm(shape());
    const { promise, resolve } = Promise.withResolvers<void>();
    host.onCall = (name) => {
      if (name !== 'restore') return;
      if (count('restore') === 1) return promise;
      throw new BerthError('snapshot_damaged');
    };
    const clone = vms.create(small);
    await until('a clone is restored', () => count('restore') > 0);
    assert.equal((await vms.create(small)).startMode, 'boot');
    assert.deepEqual(await sizes(), [64]);
    resolve();
    assert.equal((await clone).startMode, 'clone');
  });

  const changes: Readonly<Record<string, () => unknown>> = {
    'the engine': () => {
      host.fingerprint = 'another';
    },
    "the rate of the host's clock": () => {
      host.counterKhz *= 1.45;
    },
    "the image's files": () => {
      const { image } = host;
      host.image = image && { ...image, rootfs: image.rootfs && { ...image.rootfs, sha256: 'f'.repeat(64) } };
    },
    'the initramfs': () => writeFile(join(host.home, 'image', 'initrd'), 'another initramfs'),
  };
  for (const [what, change] of Object.entries(changes))
    it(`are made anew when ${what} changed, and the old one goes`, async () => {
      await vms.warm(shape());
      const [old] = rows();
      await change();
      assert.equal((await vms.create(small)).startMode, 'boot');
      await vms.warm(shape());
      const [now, ...others] = rows();
      assert.deepEqual([await sizes(), others], [[64], []]);
      assert.notEqual(now?.id, old?.id);
      assert.equal((await vms.create(small)).startMode, 'clone');
    });

  it('are not made of an image that was replaced while they were', async () => {
    host.onCall = (name) => {
      if (name === 'ready') host.fingerprint = 'another';
    };
    await assert.rejects(vms.warm(shape()), { code: 'conflict' });
    assert.deepEqual([await sizes(), vms.list(), host.processes.size], [[], [], 0]);
  });

  it('of an image that is gone go too, with the VMs that were made ready of them', async () => {
    await reopen({ settings: { templates: settings, spares: { waiting: 1, ready: 0 } } });
    await vms.warm(shape());
    await vms.create(small);
    const vmCount = () => host.db.all('SELECT 1 FROM vms').length;
    await until('a spare stands by', () => vmCount() === 2);
    host.image = null;
    await until('both are gone', async () => rows().length === 0 && vmCount() === 1);
    assert.deepEqual(await sizes(), []);
  });

  it('of an image that went while no daemon was there go at the next start', async () => {
    await vms.warm(shape());
    await vms.close();
    host.image = null;
    await reopen();
    await until('the template is gone', async () => (await readdir(join(host.home, 'snapshots'))).length === 0);
    assert.deepEqual(await sizes(), []);
  });

  it('leave nothing of the VM they were made of when that could not be removed at once', async () => {
    await reopen({ quotas: { maxVms: 1 }, settings: { templates: settings } });
    host.onCall = (name) => {
      if (name === 'destroy' && count('destroy') < 3) throw new Error('it is not the time');
    };
    await vms.warm(shape());
    assert.equal((await vms.create(small)).startMode, 'clone');
    await until('it is gone', () => host.db.all('SELECT 1 FROM vms').length === 1);
    assert.deepEqual(await sizes(), [64]);
  });

  it('serve again after a restart', async () => {
    await vms.warm(shape());
    await reopen();
    assert.equal((await vms.create(small)).startMode, 'clone');
    assert.equal(count('capture'), 1);
  });

  it('that an image cannot be made into are not tried again with every VM, but when asked for', async () => {
    fail('capture', new BerthError('unsupported', { feature: 'It' }));
    await vms.create(small);
    await assert.rejects(vms.warm(shape()), { code: 'unsupported' });
    const tried = count('capture');
    await vms.create(small);
    await vms.create(small);
    await vms.close();
    assert.equal(count('capture'), tried);
    host.onCall = () => {};
    await reopen();
    await vms.warm(shape());
    assert.deepEqual(await sizes(), [64]);
  });

  it('that could not be made for a reason that passes are tried again with the next VM', async () => {
    fail('capture', new BerthError('insufficient_storage'));
    await vms.create(small);
    await assert.rejects(vms.warm(shape()), { code: 'insufficient_storage' });
    host.onCall = () => {};
    await vms.create(small);
    await until('what was begun is taken away', () => count('destroy') >= 3);
    await reopen();
    assert.deepEqual(await sizes(), [64]);
  });

  it('leave nothing when they cannot be made, at whatever point', async () => {
    for (const at of ['start', 'ready', 'capture'] as const) {
      fail(at, new BerthError('boot_failed', { reason: 'it is a test' }));
      await assert.rejects(vms.warm(shape()), { code: 'boot_failed' });
      assert.deepEqual([await sizes(), host.processes.size, await readdir(join(host.home, 'vms'))], [[], 0, []]);
      assert.deepEqual(host.db.all('SELECT * FROM vms'), []);
    }
  });

  it('are refused for sizes that no VM may have and for images that are not there', async () => {
    for (const wrong of [{ cpus: 0 }, { cpus: 1.5 }, { cpus: -1 }, { cpus: 99 }, { memoryMiB: 1 }, { memoryMiB: 1e9 }])
      await assert.rejects(vms.warm({ ...shape(), ...wrong }), { code: 'invalid_argument' }, JSON.stringify(wrong));
    host.image = null;
    await assert.rejects(vms.warm(shape()), { code: 'image_not_found' });
    assert.deepEqual([host.calls, await sizes()], [[], []]);
  });

  describe('that are being made', () => {
    let going: PromiseWithResolvers<void>;
    let warm: Promise<void>;

    // A failed test must not leave the daemon waiting.
    afterEach(() => going.resolve());

    /** Until `going` is resolved. */
    async function begin(quotas: Partial<Quotas>, before: () => Promise<void> = async () => {}): Promise<void> {
      await reopen({ quotas, settings: { templates: settings } });
      await before();
      going = Promise.withResolvers<void>();
      host.onCall = (name) => (name === 'capture' ? going.promise : undefined);
      warm = vms.warm(shape());
      // Its failure is looked at below.
      warm.catch(() => {});
      await until('a capture begins', () => count('capture') > 0);
    }

    it('take no room from a VM that is asked for', async () => {
      await begin({ maxVms: 1, totalCpus: 1, totalMemoryMiB: 64 });
      assert.equal((await vms.create(small)).state, 'running');
      going.resolve();
      await warm;
    });

    it('take no room from a VM that is started', async () => {
      let id = '';
      await begin({ maxVms: 2, totalCpus: 1, totalMemoryMiB: 64 }, async () => {
        ({ id } = await vms.create(small));
        await vms.stop(id);
      });
      assert.equal((await vms.start(id)).state, 'running');
      going.resolve();
      await warm;
    });

    it('are waited for by a daemon that ends, and others are not begun', async () => {
      await begin({});
      const next = vms.warm(shape(65));
      const closed = vms.close();
      going.resolve();
      await assert.rejects(next, { code: 'shutting_down' });
      await closed;
      assert.deepEqual([host.processes.size, await readdir(join(host.home, 'vms'))], [0, []]);
    });
  });
});
