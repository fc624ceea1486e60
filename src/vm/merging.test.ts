import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCommand } from '../common/command.ts';
import { until } from '../common/testing/until.ts';
import type { VmSettings } from './context.ts';
import { layerNames, readChain } from './disk-chain.ts';
import { VmLayout } from './layout.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small } from './testing/fake-fixtures.ts';
import type { FakeHost } from './testing/fake-host.ts';

/** Its disk holds a mark of each of forty generations. */
const marked = { ...small, diskMiB: 8 };
/** Layers above which they are merged, and of which a snapshot is refused; see `disk.merge_layers` and `maxLayers`. */
const [merged, most] = [8, 32];

describe('disk layers', () => {
  let host: FakeHost;
  let vms: Vms;
  let layout: VmLayout;

  const options = (settings: Partial<VmSettings>) => ({ quotas: { maxSnapshots: 100 }, settings });
  const usual = options({ layers: { merged, quietMs: 1 } });
  const reopen = daemonPerTest(
    (daemon) => {
      ({ host, vms } = daemon);
      layout = new VmLayout(host.home);
    },
    () => usual,
  );
  const layersOf = async (id: string) => (await layerNames(layout.dir(id))).length;
  const untilShort = (id: string) => until('its layers are merged', async () => (await layersOf(id)) <= merged);
  const journal = () => host.db.all<{ kind: string }>('SELECT kind FROM operations').map(({ kind }) => kind);
  const merges = () => host.calls.filter(({ name }) => name === 'mergeLayers').length;
  const untilMerging = (count = 1) => until(`merge ${count} begins`, () => merges() >= count);

  /** Writes, in a VM's newest layer, what tells a generation from the others; at least one place is written over by the next. */
  async function mark(id: string, generation: number): Promise<void> {
    const [newest] = await readChain(layout, id);
    const writes = [`write -P ${generation} ${generation * 128}k 64k`, `write -P ${generation} 0 4k`];
    await qemuIo(id, newest!, writes);
  }

  async function assertMarked(id: string, generations: number): Promise<void> {
    const chain = await readChain(layout, id);
    assert.equal(chain.length - 1, await layersOf(id), 'no layer is there that is not in use');
    const reads = Array.from({ length: generations }, (_, index) => `read -P ${index + 1} ${(index + 1) * 128}k 64k`);
    await qemuIo(id, chain[0]!, [...reads, `read -P ${generations} 0 4k`, 'read -P 0 64k 64k']);
  }

  async function qemuIo(id: string, layer: string, commands: readonly string[]): Promise<void> {
    const args = ['-f', 'qcow2', ...commands.flatMap((command) => ['-c', command]), layer];
    const { stdout } = await runCommand('qemu-io', args, { cwd: layout.dir(id) });
    assert.doesNotMatch(stdout, /failed|error/i);
  }

  it('of one VM are merged, however many snapshots are taken of it', async () => {
    const { id } = await vms.create(marked);
    for (let generation = 1; generation <= 40; generation++) {
      await mark(id, generation);
      await vms.snapshot(id);
      assert.ok((await layersOf(id)) <= most);
      // Hours are between them.
      if (generation % 4 === 0) await untilShort(id);
    }
    assert.ok((await layersOf(id)) <= merged);
    await vms.stop(id, { force: true });
    await assertMarked(id, 40);
    assert.deepEqual(journal(), []);
  });

  it('of clones of clones are merged, for forty generations, with what each of them wrote', async () => {
    let vm = await vms.create(marked);
    const snapshots: string[] = [];
    for (let generation = 1; generation <= 40; generation++) {
      await mark(vm.id, generation);
      const { id } = await vms.snapshot(vm.id);
      snapshots.push(id);
      await vms.remove(vm.id);
      vm = await vms.create({ ...marked, snapshotId: id });
      await untilShort(vm.id);
    }
    await vms.stop(vm.id, { force: true });
    await assertMarked(vm.id, 40);
    // Older ones have what they were taken with.
    for (const generation of [1, 9, 10, 25]) {
      const { id } = await vms.create({ ...marked, snapshotId: snapshots[generation - 1]!, start: false });
      await assertMarked(id, generation);
    }
  });

  it('of which more come than merging in the background gets done are merged before the next snapshot', async () => {
    await reopen(options({ layers: { merged, quietMs: 3_600_000 } }));
    const { id } = await vms.create(marked);
    for (let generation = 1; generation <= 40; generation++) {
      await mark(id, generation);
      await vms.snapshot(id);
      assert.ok((await layersOf(id)) < most);
    }
    await vms.fork(id, 1);
    await vms.stop(id, { force: true });
    await assertMarked(id, 40);
  });

  it('of which merging takes too long for who waits are as they were, and the snapshot is taken', async (test) => {
    await reopen(options({ layers: { merged, quietMs: 3_600_000 } }));
    const { id } = await vms.create(small);
    while ((await layersOf(id)) <= most - 8) await vms.snapshot(id);
    host.waiting.set('mergeLayers', new Promise(() => {}));
    const over = new AbortController();
    const longest = test.mock.method(AbortSignal, 'timeout', () => over.signal);
    const taking = vms.snapshot(id);
    await untilMerging();
    assert.deepEqual(
      longest.mock.calls.map((call) => call.arguments),
      [[60_000]],
    );
    over.abort();
    await taking;
    assert.deepEqual([await layersOf(id), journal()], [most - 6, []]);
  });

  it('that cannot be merged are as they were, and refused when there are too many', async () => {
    host.failing.add('mergeLayers');
    const { id } = await vms.create(small);
    for (let count = 1; count <= most; count++) await vms.snapshot(id);
    await assert.rejects(vms.snapshot(id), { code: 'quota_exceeded', message: /layers=32/ });
    await assert.rejects(vms.fork(id, 1), { code: 'quota_exceeded' });
    assert.deepEqual([vms.get(id).state, await layersOf(id), journal()], ['running', most + 1, []]);
    host.failing.clear();
    await vms.snapshot(id);
    await untilShort(id);
  });

  it('are not merged where there is no space for them, and the VM runs on', async () => {
    const { id } = await vms.create(small);
    host.onCall = (name) => assert.notEqual(name, 'mergeLayers');
    for (let count = 1; count <= merged; count++) await vms.snapshot(id);
    host.reserveMiB = 2 ** 40;
    // Noticed when it is taken up again.
    await reopen();
    await sleep(50);
    assert.deepEqual([vms.get(id).state, await layersOf(id), merges()], ['running', merged + 1, 0]);
  });

  it('are no longer merged when anything else is to be done with the VM, and then again', async () => {
    const never = Promise.withResolvers<void>();
    host.waiting.set('mergeLayers', never.promise);
    const { id } = await vms.create(small);
    for (let count = 1; count <= merged; count++) await vms.snapshot(id);
    await untilMerging();
    const begun = merges();
    await vms.pause(id);
    await vms.resume(id);
    await vms.snapshot(id);
    await untilMerging(begun + 1);
    assert.deepEqual(journal(), ['merge']);
    await vms.stop(id, { force: true });
    assert.deepEqual([await layersOf(id), journal()], [merged + 2, []]);
    await vms.start(id);
    await untilMerging(begun + 2);
    host.waiting.clear();
    await vms.reboot(id, { force: true });
    await untilShort(id);
    await vms.remove(id);
    assert.deepEqual(await readdir(layout.vmsRoot), []);
  });

  it('are left to the next daemon by one that ends', async () => {
    const never = Promise.withResolvers<void>();
    host.waiting.set('mergeLayers', never.promise);
    const { id } = await vms.create(small);
    for (let count = 1; count <= merged; count++) await vms.snapshot(id);
    await untilMerging();
    await vms.close();
    assert.deepEqual([await layersOf(id), journal()], [merged + 1, []]);
    host.waiting.clear();
    await reopen();
    await untilShort(id);
  });

  it('that were merged, and are still there, go when the next daemon settles it', async () => {
    const { id } = await vms.create(small);
    await mark(id, 1);
    for (let count = 1; count <= 3; count++) await vms.snapshot(id);
    await vms.close();
    const [newest] = await readChain(layout, id);
    const rebase = ['rebase', '-f', 'qcow2', '-b', 'base.ext4', '-F', 'raw', newest!];
    await runCommand('qemu-img', rebase, { cwd: layout.dir(id) });
    await host.dependencies().store.begin(vms.get(id), { vmId: id, kind: 'merge', detail: {}, startedAt: '' });
    await reopen();
    assert.deepEqual([vms.get(id).state, await layerNames(layout.dir(id)), journal()], ['running', [newest], []]);
    await assertMarked(id, 1);
  });

  const stills: Readonly<Record<string, { still: (id: string) => unknown; goOn: (id: string) => Promise<unknown> }>> = {
    'are paused': { still: (id) => vms.pause(id), goOn: (id) => vms.resume(id) },
    'are parked': { still: (id) => vms.park(id), goOn: (id) => vms.guest(id).sync() },
    'the engine holds': {
      still: (id) => {
        host.change(id, 'stalled');
        return until('it is seen', () => vms.get(id).state === 'paused');
      },
      goOn: (id) => vms.resume(id),
    },
  };
  for (const [which, { still, goOn }] of Object.entries(stills))
    it(`of VMs that ${which} are not merged until they run, and a VM's record is not touched by it`, async () => {
      // Nothing lets them go on meanwhile.
      const reconcileIntervalMs = 3_600_000;
      const [never, soon] = [100, 2].map((merged) => options({ layers: { merged, quietMs: 1 }, reconcileIntervalMs }));
      await reopen(never);
      const { id } = await vms.create(small);
      for (let count = 1; count <= 2; count++) await vms.snapshot(id);
      await still(id);
      const held = vms.get(id);
      await reopen(soon);
      // Its turn comes after the first one's.
      const other = await vms.create(small);
      for (let count = 1; count <= 2; count++) await vms.snapshot(other.id);
      await until('the other one is merged', async () => (await layersOf(other.id)) <= 2);
      assert.deepEqual([await layersOf(id), vms.get(id)], [3, held]);
      await goOn(id);
      const running = vms.get(id);
      await reopen(soon);
      await until('it is merged', async () => (await layersOf(id)) <= 2);
      await vms.close();
      assert.deepEqual(vms.get(id), running);
    });
});
