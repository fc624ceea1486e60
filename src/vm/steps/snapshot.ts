import { chmod, chown, mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError } from '../../common/errors.ts';
import { failpoint } from '../../common/failpoint.ts';
import { exists, linkOnce, syncPath } from '../../common/files.ts';
import { createOverlay } from '../../disk/qcow2.ts';
import type { EngineLayer } from '../../engine/engine.ts';
import type { GuestClient } from '../../guest/guest.ts';
import { MemoryFileWriter, type MemoryIndex } from '../../snapshot/memory-file.ts';
import {
  hasMemory,
  memoryFiles,
  readMemoryManifest,
  stateChecksum,
  writeMemoryManifest,
} from '../../snapshot/memory-files.ts';
import { tellTime } from '../clock.ts';
import type { OperationContext } from '../context.ts';
import { isLayerName, rootDiskName } from '../layout.ts';
import { readManifest, writeManifest } from '../manifest.ts';
import type { Step } from '../run-steps.ts';
import { shapeOf } from './clone.ts';
import { isDiskFile } from './files.ts';

/** Longest time the guest's writes are held; it lets go by itself after that. */
const maxFreezeMs = 10_000;

/** An empty layer that will take the VM's writes from the snapshot on. */
export const layerStep: Step<OperationContext> = {
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
 * The instant of the snapshot: with the guest's file system flushed, and the VM standing still, writes move to
 * the new layer, and memory and devices are saved. They are put together beside the disk and published with it.
 */
export const captureStep: Step<OperationContext> = {
  name: 'capture',
  async run(context) {
    const { deps, live, vm, detail } = context;
    const dir = deps.layout.capture(vm.id);
    await rm(dir, { recursive: true, force: true });
    // The VM's process passes through, and writes the one file it is given.
    await mkdir(dir);
    await chmod(dir, 0o711);
    const files = memoryFiles(dir);
    await writeFile(files.state, '', { mode: 0o600 });
    if (vm.uid !== null) await chown(files.state, vm.uid, vm.uid);
    const fingerprint = await deps.engine.fingerprint(shapeOf(deps, vm));
    // Here, where nobody waits for it: a guest may take as long as its writes, or its malice, let it.
    await guestOf(context).sync();
    await using memory = await MemoryFileWriter.create(files.memory, vm.memoryMiB);
    const capturing = deps.captures.run(() =>
      whileQuiet(context, () =>
        withLayerAhead(context, (layer) =>
          deps.engine.capture(vm.id, deps.layout.run(vm.id), {
            memoryMiB: vm.memoryMiB,
            statePath: files.state,
            layer,
            atRest: () => failpoint('snapshot.capture.rest'),
            take: (page, bytes) => memory.take(page, bytes),
          }),
        ),
      ),
    );
    // It stood still, whatever came of it.
    const { pausedMicros, handOut } = await capturing.finally(() => tellTime(vm, live.get(vm.id)?.guest, deps.log));
    deps.log.info({ vm: vm.id, pausedMicros }, 'memory captured');
    await handOut();
    await seal(files.state, vm.uid);
    const origin = await ownOrigin(deps.layout.dir(vm.id));
    const index = await memory.finish(origin, detail.passing !== 1);
    const stateSha256 = await stateChecksum(files.state);
    // A guest goes by what it was told when it booted, wherever it has gone on since then.
    const counterKhz = origin === null ? await deps.engine.counterKhz() : origin.counterKhz;
    await writeMemoryManifest(dir, { fingerprint, counterKhz, stateSha256, memory: index });
  },
  async undo({ deps, vm }) {
    await rm(deps.layout.capture(vm.id), { recursive: true, force: true });
  },
};

/** What the VM's memory is made of where the VM has not changed it: null when it booted. */
async function ownOrigin(
  dir: string,
): Promise<{ readonly path: string; readonly index: MemoryIndex; readonly counterKhz: number | null } | null> {
  if (!(await hasMemory(dir))) return null;
  const { memory: index, counterKhz } = await readMemoryManifest(dir);
  return { path: memoryFiles(dir).memory, index, counterKhz };
}

function guestOf({ live, vm }: OperationContext): GuestClient {
  const running = live.get(vm.id);
  if (!running)
    throw new BerthError('wrong_state', { expected: 'RUNNING to snapshot', actual: 'STOPPED', state: 'stopped' });
  return running.guest;
}

/**
 * Runs `task` with the guest's file system frozen where the disk alone is to be of use. Other VMs' captures wait meanwhile,
 * so a guest has no longer for either end of it than it may be held.
 */
async function whileQuiet<T>(context: OperationContext, task: () => Promise<T>): Promise<T> {
  const guest = guestOf(context);
  // Memory and disk of one instant fit as they are. A frozen file system costs each copy a write when it is let go.
  if (context.detail.bootable !== 1) return task();
  const begun = performance.now();
  await guest.freeze(maxFreezeMs, maxFreezeMs);
  let result: T;
  try {
    result = await task();
  } finally {
    await guest.thaw(maxFreezeMs);
  }
  // A guest lets go by itself when it is held too long; what it wrote since then is not in order.
  if (performance.now() - begun > maxFreezeMs) throw new BerthError('deadline_exceeded', { operation: 'The snapshot' });
  return result;
}

/**
 * Runs `task`, which puts the new layer in place. The manifest names the layer before, so that the VM need not stand still
 * for that: until then it is an empty one on top of the one in use, which reads the same whatever happens. When `task` fails,
 * the manifest goes back only where the guest does not write to the new layer, which is removed then.
 */
async function withLayerAhead<T>(
  { deps, vm, detail }: OperationContext,
  task: (layer: EngineLayer) => Promise<T>,
): Promise<T> {
  const manifest = deps.layout.manifest(vm.id);
  const names = (layer: string) => writeManifest(manifest, { version: 1, id: vm.id, layer });
  let mayHaveWrites = false;
  await names(String(detail.newLayer));
  failpoint('snapshot.capture.ahead');
  try {
    return await task({
      disk: rootDiskName,
      path: join(deps.layout.dir(vm.id), String(detail.newLayer)),
      mayHaveWrites: (may) => {
        mayHaveWrites = may;
      },
    });
  } catch (error) {
    if (!mayHaveWrites) await names(String(detail.oldLayer));
    throw error;
  }
}

/** The snapshot's directory, published whole by one rename: links to the layers that are now immutable. */
export const publishStep: Step<OperationContext> = {
  name: 'publish',
  async run({ deps: { layout }, vm, detail }) {
    const target = layout.snapshot(String(detail.snapshotId));
    if (await exists(target)) return;
    const temporary = `${target}.tmp`;
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true, mode: 0o700 });
    const dir = layout.dir(vm.id);
    for (const name of await readdir(dir)) {
      if (!isDiskFile(name) || name === detail.newLayer) continue;
      if (isLayerName(name)) await seal(join(dir, name), vm.uid);
      await linkOnce(join(dir, name), join(temporary, name));
    }
    const capture = layout.capture(vm.id);
    if (await hasMemory(capture)) await moveFiles(capture, temporary);
    await syncPath(temporary);
    await rename(temporary, target);
    await syncPath(layout.snapshotsRoot);
  },
  async undo({ deps: { layout }, detail }) {
    const target = layout.snapshot(String(detail.snapshotId));
    await rm(`${target}.tmp`, { recursive: true, force: true });
    await rm(target, { recursive: true, force: true });
  },
};

/** Memory belongs to the snapshot alone. */
async function moveFiles(from: string, to: string): Promise<void> {
  for (const name of await readdir(from)) await rename(join(from, name), join(to, name));
  await rm(from, { recursive: true });
}

/** Makes a layer, or a device state, read-only for every VM, its former owner included, and its content durable. */
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
