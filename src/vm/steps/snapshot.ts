import { chmod, chown, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError } from '../../common/errors.ts';
import { exists, syncDirectory } from '../../common/files.ts';
import { createOverlay } from '../../disk/qcow2.ts';
import type { OperationContext } from '../context.ts';
import { isLayerName } from '../layout.ts';
import { readManifest, writeManifest } from '../manifest.ts';
import type { Step } from '../run-steps.ts';
import { isSnapshotFile, linkOnce } from './files.ts';

/** Longest time the guest's writes are held; it lets go by itself after that. */
const maxFreezeMs = 10_000;

/** An empty layer that will take the VM's writes from the snapshot on. */
export const newLayerStep: Step<OperationContext> = {
  name: 'layer',
  async run({ deps: { layout }, vm, detail }) {
    await createOverlay({
      path: join(layout.dir(vm.id), String(detail.newLayer)),
      backing: String(detail.oldLayer),
      backingFormat: 'qcow2',
      sizeBytes: vm.diskMiB * 1024 * 1024,
      uid: vm.uid,
    });
  },
  async undo({ deps: { layout }, vm, detail }) {
    // Once the manifest names the layer it is part of the VM's disk: empty, and harmless to keep.
    const manifest = await readManifest(layout.manifest(vm.id));
    if (manifest?.layer === detail.newLayer) return;
    await rm(join(layout.dir(vm.id), String(detail.newLayer)), { force: true });
  },
};

/**
 * The instant of the snapshot: with the guest's file system flushed and frozen, writes move to the new layer. The manifest
 * changes first: a crash between the two leaves an empty layer on top of the one in use, which reads the same.
 */
export const switchStep: Step<OperationContext> = {
  name: 'switch',
  async run({ deps, live, vm, detail }) {
    const running = live.get(vm.id);
    if (!running)
      throw new BerthError('wrong_state', { expected: 'RUNNING to snapshot', actual: 'STOPPED', state: 'stopped' });
    await running.guest.sync();
    const begun = performance.now();
    await running.guest.freeze(maxFreezeMs);
    try {
      const layer = String(detail.newLayer);
      await writeManifest(deps.layout.manifest(vm.id), { version: 1, id: vm.id, layer });
      await deps.engine.switchDiskLayer(vm.id, deps.layout.run(vm.id), 'root', join(deps.layout.dir(vm.id), layer));
    } finally {
      await running.guest.thaw();
    }
    // A guest lets go by itself when it is held too long; what it wrote since then is not in order.
    if (performance.now() - begun > maxFreezeMs)
      throw new BerthError('deadline_exceeded', { operation: 'The snapshot' });
  },
};

/** The snapshot's directory, published whole by one rename: links to the layers that are now immutable. */
export const publishStep: Step<OperationContext> = {
  name: 'publish',
  async run({ deps: { layout }, vm, detail }) {
    const target = layout.snapshot(String(detail.snapshotId));
    if (await exists(target)) return;
    const temporary = `${target}.tmp`;
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true, mode: 0o711 });
    const dir = layout.dir(vm.id);
    for (const name of await readdir(dir)) {
      if (!isSnapshotFile(name) || name === detail.newLayer) continue;
      if (isLayerName(name)) await seal(join(dir, name), vm.uid);
      await linkOnce(join(dir, name), join(temporary, name));
    }
    await syncDirectory(temporary);
    await rename(temporary, target);
    await syncDirectory(layout.snapshotsRoot);
  },
  async undo({ deps: { layout }, detail }) {
    const target = layout.snapshot(String(detail.snapshotId));
    await rm(`${target}.tmp`, { recursive: true, force: true });
    await rm(target, { recursive: true, force: true });
  },
};

/** Makes a layer read-only for every VM, its former owner included, and its content durable. */
async function seal(path: string, uid: number | null): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
  if (uid !== null) await chown(path, 0, 0);
  await chmod(path, 0o444);
}
