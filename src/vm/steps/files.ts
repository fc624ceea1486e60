import { randomUUID } from 'node:crypto';
import { chmod, chown, link, mkdir, readdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { settled } from '../../common/concurrency.ts';
import { BerthError } from '../../common/errors.ts';
import { exists, linkOnce, syncAll, syncPath } from '../../common/files.ts';
import { createOverlay } from '../../disk/qcow2.ts';
import { linkMemory } from '../../snapshot/memory-files.ts';
import type { OperationContext } from '../context.ts';
import { chainFrom } from '../disk-chain.ts';
import { baseName, isLayerName } from '../layout.ts';
import { manifestText } from '../manifest.ts';
import type { VmBoot } from '../model.ts';
import type { Step } from '../run-steps.ts';

const bytesPerMiB = 1024 * 1024;

/** A fresh name for a disk layer. */
export function newLayerName(): string {
  return `layer-${randomUUID()}.qcow2`;
}

/**
 * The VM's directory with hard links to what it starts from: the files of its image, of its snapshot, or of its creator.
 * Links pin the very files, so an image that is replaced or a snapshot that is removed later cannot take the ground from
 * under a VM.
 */
export const directoryStep: Step<OperationContext> = {
  name: 'directory',
  async run(context) {
    const { deps, vm } = context;
    const dir = deps.layout.dir(vm.id);
    const run = deps.layout.run(vm.id);
    await mkdir(run, { recursive: true });
    await settled([
      // The VM's process passes through to its own files; nobody else's does.
      vm.uid === null ? null : chown(dir, 0, vm.uid),
      chmod(dir, vm.uid === null ? 0o700 : 0o710),
      chmod(run, 0o700),
      linkSource(context),
      ...vm.dataDisks.map(({ name, asset }, index) =>
        deps.assets.pinDisk(name, asset, deps.layout.dataBase(vm.id, index)),
      ),
      nameConsole(context),
    ]);
  },
  async undo({ deps: { layout, store }, vm }) {
    await store.forsake(vm.id);
    await rm(layout.dir(vm.id), { recursive: true, force: true });
  },
};

function linkSource(context: OperationContext): Promise<void> {
  const { vm, detail } = context;
  if (typeof detail.snapshotId === 'string') return linkSnapshot(context, detail.snapshotId);
  return vm.boot === null ? linkImage(context) : pinBoot(context, vm.boot);
}

async function linkSnapshot({ deps: { layout }, vm, detail }: OperationContext, snapshotId: string): Promise<void> {
  const source = layout.snapshot(snapshotId);
  const dir = layout.dir(vm.id);
  const names = (await snapshotFiles(source)).filter(isDiskFile);
  await settled([
    checkLayers(source, String(detail.belowLayer)),
    ...names.map((name) => linkOnce(join(source, name), join(dir, name))),
    detail.memory === 1 ? linkMemory(source, dir) : null,
  ]);
}

async function linkImage({ deps: { layout, images }, vm }: OperationContext): Promise<void> {
  const files = await images.files(vm.imageId ?? '');
  await settled([
    linkOnce(files.kernel, layout.kernel(vm.id)),
    linkOnce(files.initrd, layout.initrd(vm.id)),
    linkOnce(files.rootfs, join(layout.dir(vm.id), baseName)),
  ]);
}

async function pinBoot({ deps: { assets, layout }, vm }: OperationContext, boot: VmBoot): Promise<void> {
  await assets.pin('the kernel', boot.kernel, layout.kernel(vm.id));
  if (boot.initrd !== null) await assets.pin('the initramfs', boot.initrd, layout.initrd(vm.id));
  const { name, asset } = vm.rootDisk;
  if (asset !== null) await assets.pinDisk(name, asset, join(layout.dir(vm.id), baseName));
}

/** The creator's name for the console's log, as a link to it: names of Berth's own files are in other directories. */
async function nameConsole({ deps: { engine, layout }, vm }: OperationContext): Promise<void> {
  if (vm.consoleFile === null) return;
  const dir = layout.console(vm.id);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const name = join(dir, vm.consoleFile);
  await rm(name, { force: true });
  await symlink(relative(dir, engine.consoleLog(layout.run(vm.id))), name);
}

/**
 * Empty writable layers: over the image's, the snapshot's or the creator's root disk, and over each data disk that is
 * written to. Removed with the directory.
 */
export const diskStep: Step<OperationContext> = {
  name: 'disk',
  async run({ deps: { layout }, vm, detail }) {
    const dir = layout.dir(vm.id);
    const layer = String(detail.layer);
    const below = typeof detail.belowLayer === 'string' ? detail.belowLayer : baseName;
    const root = createOverlay({
      path: join(dir, layer),
      backing: below,
      backingFormat: below === baseName ? (vm.rootDisk.asset?.format ?? 'raw') : 'qcow2',
      // A guest whose memory is restored must find the disk it knows; it is told of more when it runs.
      sizeBytes: (detail.memory === 1 ? Number(detail.belowDiskMiB) : vm.diskMiB) * bytesPerMiB,
      uid: vm.uid,
      sync: false,
    });
    const data = vm.dataDisks.map(({ readOnly, asset, sizeMiB }, index) => {
      if (readOnly) return null;
      return createOverlay({
        path: layout.dataLayer(vm.id, index),
        backing: basename(layout.dataBase(vm.id, index)),
        backingFormat: asset.format,
        sizeBytes: sizeMiB * bytesPerMiB,
        uid: vm.uid,
        sync: false,
      });
    });
    const manifest = writeFile(layout.manifest(vm.id), manifestText({ version: 1, id: vm.id, layer }), { mode: 0o600 });
    await settled([root, ...data, manifest]);
  },
};

/**
 * Makes the files durable, while they are in use already, and then the note that they are: should the host go down before
 * that, the operation is taken back, and after it the VM is there.
 */
export const syncStep: Step<OperationContext> = {
  name: 'sync',
  async run({ deps, vm, detail }) {
    const { layout } = deps;
    const dir = layout.dir(vm.id);
    const layers = vm.dataDisks.flatMap(({ readOnly }, index) => (readOnly ? [] : [layout.dataLayer(vm.id, index)]));
    await syncAll([join(dir, String(detail.layer)), ...layers, layout.manifest(vm.id), dir, layout.vmsRoot]);
    if (vm.state === 'starting') await deps.store.keep(vm.id, deps.hostBoot);
  },
};

/** Waits until what a VM is to become is durable, whose files have long been so. */
export const journalStep: Step<OperationContext> = {
  name: 'journal',
  run: ({ deps }) => deps.store.settled(),
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
    await syncPath(layout.vmsRoot);
  },
  async check({ deps: { layout }, vm }) {
    return !(await exists(layout.dir(vm.id)));
  },
};

/** Whether a file belongs to a disk, or to what boots from it: what a snapshot keeps and a VM made from it is given. */
export function isDiskFile(name: string): boolean {
  return isLayerName(name) || name === baseName || name === 'vmlinux' || name === 'initrd';
}

/** Throws `snapshot_damaged` unless a snapshot's layers are all there, each leading to the next by its header. */
async function checkLayers(dir: string, newest: string): Promise<void> {
  try {
    await chainFrom(dir, newest);
  } catch (error) {
    throw new BerthError('snapshot_damaged', {}, error);
  }
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
