import { randomUUID } from 'node:crypto';
import { chmod, link, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError } from '../../common/errors.ts';
import { exists, linkOnce, syncAll, syncDirectory } from '../../common/files.ts';
import { createOverlay } from '../../disk/qcow2.ts';
import { linkMemory } from '../../snapshot/memory-files.ts';
import type { OperationContext } from '../context.ts';
import { baseName, isLayerName } from '../layout.ts';
import { manifestText } from '../manifest.ts';
import type { Step } from '../run-steps.ts';

/** A fresh name for a disk layer. */
export function newLayerName(): string {
  return `layer-${randomUUID()}.qcow2`;
}

/**
 * The VM's directory with hard links to what it starts from: the image's files, or the snapshot's. Links pin the very
 * files, so an image that is replaced or a snapshot that is removed later cannot take the ground from under a VM.
 */
export const directoryStep: Step<OperationContext> = {
  name: 'directory',
  async run({ deps: { layout, images }, vm, detail }) {
    const dir = layout.dir(vm.id);
    const run = layout.run(vm.id);
    await mkdir(run, { recursive: true });
    await chmod(dir, 0o711);
    await chmod(run, 0o700);
    if (typeof detail.snapshotId === 'string') {
      const source = layout.snapshot(detail.snapshotId);
      for (const name of await snapshotFiles(source)) {
        if (isDiskFile(name)) await linkOnce(join(source, name), join(dir, name));
      }
      if (detail.memory === 1) await linkMemory(source, dir);
    } else {
      const files = await images.files(vm.imageId ?? '');
      await linkOnce(files.kernel, layout.kernel(vm.id));
      await linkOnce(files.initrd, layout.initrd(vm.id));
      await linkOnce(files.rootfs, join(dir, baseName));
    }
  },
  async undo({ deps: { layout }, vm }) {
    await rm(layout.dir(vm.id), { recursive: true, force: true });
  },
};

/** An empty writable layer over the image's or the snapshot's disk. Removed with the directory. */
export const diskStep: Step<OperationContext> = {
  name: 'disk',
  async run({ deps: { layout }, vm, detail }) {
    const dir = layout.dir(vm.id);
    const layer = String(detail.layer);
    const below = typeof detail.belowLayer === 'string' ? detail.belowLayer : baseName;
    await createOverlay({
      path: join(dir, layer),
      backing: below,
      backingFormat: below === baseName ? 'raw' : 'qcow2',
      // A guest whose memory is restored must find the disk it knows; it is told of more when it runs.
      sizeBytes: (detail.memory === 1 ? Number(detail.belowDiskMiB) : vm.diskMiB) * 1024 * 1024,
      uid: vm.uid,
      sync: false,
    });
    const manifest = layout.manifest(vm.id);
    await writeFile(manifest, manifestText({ version: 1, id: vm.id, layer }), { mode: 0o600 });
    await syncAll([join(dir, layer), manifest, dir, layout.vmsRoot]);
  },
};

/**
 * Gives the VM the initramfs of this build, where its kernel is still the image's: a daemon that was upgraded brings a
 * new guest-init with it. A VM whose image has another kernel by now keeps what it has.
 */
export const initrdStep: Step<OperationContext> = {
  name: 'initrd',
  needed: ({ deps, vm }) => vm.imageId !== null && deps.images.find(vm.imageId) !== null,
  async run({ deps: { layout, images }, vm }) {
    const files = await images.files(vm.imageId ?? '');
    if (!(await sameFile(files.kernel, layout.kernel(vm.id)))) return;
    if (await sameFile(files.initrd, layout.initrd(vm.id))) return;
    const temporary = `${layout.initrd(vm.id)}.new`;
    await rm(temporary, { force: true });
    await link(files.initrd, temporary);
    await rename(temporary, layout.initrd(vm.id));
  },
};

/** Removes the VM's directory, last of all that a VM has. */
export const removeFilesStep: Step<OperationContext> = {
  name: 'files',
  async run({ deps: { layout }, vm }) {
    await rm(layout.dir(vm.id), { recursive: true, force: true });
    await syncDirectory(layout.vmsRoot);
  },
  async check({ deps: { layout }, vm }) {
    return !(await exists(layout.dir(vm.id)));
  },
};

/** Whether a file belongs to a disk, or to what boots from it: what a snapshot keeps and a VM made from it is given. */
export function isDiskFile(name: string): boolean {
  return isLayerName(name) || name === baseName || name === 'vmlinux' || name === 'initrd';
}

async function snapshotFiles(dir: string): Promise<string[]> {
  const names = await readdir(dir).catch((error: unknown) => {
    throw new BerthError('snapshot_damaged', {}, error);
  });
  if (!names.includes(baseName) || !names.includes('vmlinux') || !names.includes('initrd'))
    throw new BerthError('snapshot_damaged');
  return names;
}

async function sameFile(a: string, b: string): Promise<boolean> {
  const [one, other] = await Promise.all([stat(a), stat(b)]);
  return one.ino === other.ino && one.dev === other.dev;
}
