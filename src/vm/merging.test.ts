import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCommand } from '../common/command.ts';
import { layerNames, readChain } from './disk-chain.ts';
import { VmLayout } from './layout.ts';
import type { CreateVm } from './request.ts';
import { Vms } from './service.ts';
import { FakeHost } from './testing/fake-host.ts';

const small: CreateVm = { cpus: 1, memoryMiB: 64, diskMiB: 8, egress: { outbound: false, allow: [] } };
/** Layers above which they are merged, and of which a snapshot is refused; see `disk.merge_layers` and `maxLayers`. */
const [merged, most] = [8, 32];

describe('disk layers', () => {
  let host: FakeHost;
  let vms: Vms;
  let layout: VmLayout;

  beforeEach(async () => {
    host = await FakeHost.create();
    layout = new VmLayout(host.home);
    await open();
  });
  afterEach(async () => {
    await vms.close();
    await host.remove();
  });

  async function open(layers = { merged, quietMs: 1 }): Promise<void> {
    vms = await Vms.open(host.dependencies({ maxSnapshots: 100 }, { layers }));
  }
  const layersOf = async (id: string) => (await layerNames(layout.dir(id))).length;
  const isShort = async (id: string) => {
    while ((await layersOf(id)) > merged) await sleep(5);
  };
  const journal = () => host.db.all<{ kind: string }>('SELECT kind FROM operations').map(({ kind }) => kind);
  const merges = () => host.calls.filter(({ name }) => name === 'mergeLayers').length;
  const merging = async (count = 1) => {
    while (merges() < count) await sleep(1);
  };

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
    const { id } = await vms.create(small);
    for (let generation = 1; generation <= 40; generation++) {
      await mark(id, generation);
      await vms.snapshot(id);
      assert.ok((await layersOf(id)) <= most);
      // Hours are between them.
      if (generation % 4 === 0) await isShort(id);
    }
    assert.ok((await layersOf(id)) <= merged);
    await vms.stop(id, { force: true });
    await assertMarked(id, 40);
    assert.deepEqual(journal(), []);
  });

  it('of clones of clones are merged, for forty generations, with what each of them wrote', async () => {
    let vm = await vms.create(small);
    const snapshots: string[] = [];
    for (let generation = 1; generation <= 40; generation++) {
      await mark(vm.id, generation);
      const { id } = await vms.snapshot(vm.id);
      snapshots.push(id);
      await vms.remove(vm.id);
      vm = await vms.create({ ...small, snapshotId: id });
      await isShort(vm.id);
    }
    await vms.stop(vm.id, { force: true });
    await assertMarked(vm.id, 40);
    // Older ones have what they were taken with.
    for (const generation of [1, 9, 10, 25]) {
      const { id } = await vms.create({ ...small, snapshotId: snapshots[generation - 1]!, start: false });
      await assertMarked(id, generation);
    }
  });

  it('of which more come than merging in the background gets done are merged before the next snapshot', async () => {
    await vms.close();
    await open({ merged, quietMs: 3_600_000 });
    const { id } = await vms.create(small);
    for (let generation = 1; generation <= 40; generation++) {
      await mark(id, generation);
      await vms.snapshot(id);
      assert.ok((await layersOf(id)) < most);
    }
    await vms.fork(id, 1);
    await vms.stop(id, { force: true });
    await assertMarked(id, 40);
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
    await isShort(id);
  });

  it('are not merged where there is no space for them, and the VM runs on', async () => {
    const { id } = await vms.create(small);
    host.onCall = (name) => assert.notEqual(name, 'mergeLayers');
    for (let count = 1; count <= merged; count++) await vms.snapshot(id);
    host.reserveMiB = 2 ** 40;
    // Noticed when it is taken up again.
    await vms.close();
    await open();
    await sleep(50);
    assert.deepEqual([vms.get(id).state, await layersOf(id), merges()], ['running', merged + 1, 0]);
  });

  it('are no longer merged when anything else is to be done with the VM, and then again', async () => {
    const never = Promise.withResolvers<void>();
    host.waiting.set('mergeLayers', never.promise);
    const { id } = await vms.create(small);
    for (let count = 1; count <= merged; count++) await vms.snapshot(id);
    await merging();
    const begun = merges();
    await vms.pause(id);
    await vms.resume(id);
    await vms.snapshot(id);
    await merging(begun + 1);
    assert.deepEqual(journal(), ['merge']);
    await vms.stop(id, { force: true });
    assert.deepEqual([await layersOf(id), journal()], [merged + 2, []]);
    await vms.start(id);
    await merging(begun + 2);
    host.waiting.clear();
    await vms.reboot(id, { force: true });
    await isShort(id);
    await vms.remove(id);
    assert.deepEqual(await readdir(layout.vmsRoot), []);
  });

  it('are left to the next daemon by one that ends', async () => {
    const never = Promise.withResolvers<void>();
    host.waiting.set('mergeLayers', never.promise);
    const { id } = await vms.create(small);
    for (let count = 1; count <= merged; count++) await vms.snapshot(id);
    await merging();
    await vms.close();
    assert.deepEqual([await layersOf(id), journal()], [merged + 1, []]);
    host.waiting.clear();
    await open();
    await isShort(id);
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
    await open();
    assert.deepEqual([vms.get(id).state, await layerNames(layout.dir(id)), journal()], ['running', [newest], []]);
    await assertMarked(id, 1);
  });

  it("of VMs that stand still are not merged until they run, and a VM's record is not touched by it", async () => {
    await vms.close();
    await open({ merged: 100, quietMs: 1 });
    const { id } = await vms.create(small);
    for (let count = 1; count <= merged; count++) await vms.snapshot(id);
    const paused = await vms.pause(id);
    await vms.close();
    await open();
    await sleep(50);
    assert.equal(merges(), 0);
    assert.deepEqual(vms.get(id), paused);
    const resumed = await vms.resume(id);
    await vms.close();
    await open();
    await isShort(id);
    await vms.close();
    assert.deepEqual(vms.get(id), resumed);
  });
});
