import { randomUUID } from 'node:crypto';
import { BerthError } from '../common/errors.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import type { Operation } from '../store/vm-store.ts';
import type { VmDependencies } from './context.ts';
import { checkSpace } from './disk-space.ts';
import { allocateNics, allocateUid } from './leases.ts';
import type { DataDisk, RootDisk, Vm, VmBoot } from './model.ts';
import { journalEntry, type Operations } from './operations.ts';
import type { Origin } from './origin.ts';
import { checkParkAfter, checkSize, checkTotals } from './quotas.ts';
import type { Records } from './records.ts';
import { type CreateDisk, type CreateVm, checkRequest } from './request.ts';
import { newLayerName } from './steps/files.ts';

const bytesPerMiB = 1024 * 1024;

/** A request that is sound by itself, with what its files were found to be. */
export interface PreparedVm {
  readonly request: CreateVm;
  readonly origin: Origin | null;
  readonly imageId: string | null;
  readonly boot: VmBoot | null;
  readonly rootDisk: RootDisk;
  readonly dataDisks: readonly DataDisk[];
  readonly diskMiB: number;
}

/**
 * Looks at everything a new VM is made from; nothing is touched. This may take long, where an image has no initramfs of
 * this build yet.
 */
export async function prepareVm(request: CreateVm, origin: Origin | null, deps: VmDependencies): Promise<PreparedVm> {
  checkRequest(request);
  checkParkAfter(request.parkAfterSeconds ?? null);
  // One that is not to run yet takes no space; it is looked for at the first start.
  const space = request.start === false ? null : checkSpace(deps.layout.home, deps.settings.diskReserveMiB);
  const [prepared] = await Promise.all([inspect(request, origin, deps), space]);
  return prepared;
}

async function inspect(request: CreateVm, origin: Origin | null, deps: VmDependencies): Promise<PreparedVm> {
  const snapshot = origin?.snapshot ?? null;
  const disks = await Promise.all((request.disks ?? []).map((disk) => inspectDisk(disk, deps)));
  const dataDisks = disks.filter(({ root }) => !root).map(({ root: _, ...disk }) => disk);
  const root = disks.find((disk) => disk.root);
  const base =
    request.boot !== undefined && root !== undefined
      ? await bootedByItself(request, request.boot, root, deps)
      : ofImage(request, snapshot, deps);
  const { cpus, memoryMiB } = request;
  checkSize({ cpus, memoryMiB, diskMiB: base.diskMiB, dataDisks }, deps.settings.quotas);
  // Proves that the image is whole, and makes its initramfs if this build has none yet.
  if (base.imageId !== null && snapshot === null) await deps.images.files(base.imageId);
  return { request, origin, dataDisks, ...base };
}

type Base = Pick<PreparedVm, 'imageId' | 'boot' | 'rootDisk' | 'diskMiB'>;

async function bootedByItself(
  request: CreateVm,
  { kernel, initrd }: NonNullable<CreateVm['boot']>,
  { name, readOnly, asset, sizeMiB }: DataDisk,
  { assets }: VmDependencies,
): Promise<Base> {
  return {
    imageId: null,
    boot: {
      kernel: await assets.kernel(kernel),
      initrd: initrd === undefined ? null : await assets.initrd(initrd),
    },
    rootDisk: { name, readOnly, asset },
    diskMiB: Math.max(request.diskMiB ?? 0, sizeMiB),
  };
}

function ofImage(request: CreateVm, snapshot: StoredSnapshot | null, deps: VmDependencies): Base {
  // A template serves all images with its files.
  const imageId = snapshot && snapshot.role !== 'template' ? snapshot.imageId : imageFor(request, deps);
  return {
    imageId,
    boot: null,
    rootDisk: { name: 'root', readOnly: false, asset: null },
    diskMiB: rootDiskMiB(request.diskMiB, imageId, snapshot, deps),
  };
}

/**
 * Whether there is room for a prepared VM beside the others, of which those in `spares` do not count: they make room.
 * Throws `quota_exceeded`.
 */
export function checkRoom(
  { request, diskMiB, dataDisks }: PreparedVm,
  records: Records,
  spares: ReadonlySet<string>,
  { settings }: VmDependencies,
): void {
  const { cpus, memoryMiB, tenant = '', start } = request;
  const except = [...spares].flatMap((id) => records.counted(id) ?? []);
  const size = { cpus, memoryMiB, diskMiB, dataDisks };
  checkTotals(records.ledger, size, settings.quotas, { active: start !== false, tenant, except });
}

/**
 * Gives a prepared VM its place beside the others: the record with its leases and the journal entry. Callers hand them to
 * {@link Operations.reserve} without a pause, or two VMs would be given one address. What `spares` names holds leases, but
 * counts for nothing else.
 */
export function reserveVm(
  prepared: PreparedVm,
  records: Records,
  spares: ReadonlySet<string>,
  deps: VmDependencies,
): { vm: Vm; operation: Operation } {
  const { network, settings, engine } = deps;
  const { request, origin, imageId, boot, rootDisk, dataDisks, diskMiB } = prepared;
  const id = request.id ?? randomUUID();
  if (records.counted(id)) throw new BerthError('vm_exists', { id });
  checkRoom(prepared, records, spares, deps);
  const nics = allocateNics(request.nics?.length ? request.nics : [{ name: 'eth0' }], records.ledger, network.plan);
  const now = new Date().toISOString();
  const vm: Vm = {
    id,
    name: request.name ?? `vm-${id.slice(0, 8)}`,
    tenant: request.tenant ?? '',
    state: request.start === false ? 'created' : 'starting',
    engine: engine.name,
    cpus: request.cpus,
    memoryMiB: request.memoryMiB,
    diskMiB,
    dataDisks,
    imageId,
    snapshotId: origin?.snapshot.role === 'user' ? origin.snapshot.id : null,
    uid: allocateUid(records.ledger, settings.uidBase),
    boot,
    kernelArgs: request.kernelArgs ?? '',
    guestChannel: request.guestChannel ?? 'required',
    rootDisk,
    addresses: nics[0]!.addresses,
    nics,
    egress: request.egress,
    startMode: null,
    createdAt: now,
    startedAt: null,
    stoppedAt: null,
    changedAt: now,
    reason: null,
    consoleFile: request.consoleFile ?? null,
    labels: request.labels ?? {},
    apiRecord: request.apiRecord ?? null,
    parkAfterSeconds: request.parkAfterSeconds ?? null,
    parked: false,
    hidden: request.hidden ?? false,
    renewal: null,
  };
  return { vm, operation: journalEntry(id, 'create', buildDetail(origin)) };
}

/** What the journal keeps of an operation that makes a VM's files. */
export function buildDetail(origin: Origin | null): Operation['detail'] {
  const snapshot = origin?.snapshot ?? null;
  return {
    layer: newLayerName(),
    snapshotId: snapshot?.id ?? null,
    belowLayer: snapshot?.layer ?? null,
    belowDiskMiB: snapshot?.diskMiB ?? null,
    memory: origin !== null && origin.mode !== 'boot' ? 1 : 0,
  };
}

async function inspectDisk(
  disk: CreateDisk,
  { assets, images }: VmDependencies,
): Promise<DataDisk & { readonly root: boolean }> {
  const { name, readOnly = false, root = false, sizeMiB = 0 } = disk;
  if (!Number.isSafeInteger(sizeMiB) || sizeMiB < 0)
    throw new BerthError('invalid_argument', { reason: `disk ${name}: the size must be a whole number of MiB` });
  const path = 'asset' in disk.source ? disk.source.asset : await rootfsOf(disk.source.image, images);
  const { virtualSizeBytes, ...asset } = await assets.disk(name, path);
  const sourceMiB = Math.ceil(virtualSizeBytes / bytesPerMiB);
  // A disk that is only read is its source itself; the root disk has a layer in any case.
  return { name, readOnly, root, asset, sizeMiB: readOnly && !root ? sourceMiB : Math.max(sizeMiB, sourceMiB) };
}

async function rootfsOf(image: string, images: VmDependencies['images']): Promise<string> {
  const found = images.find(image);
  if (!found) throw new BerthError('image_not_found');
  return (await images.files(found.id)).rootfs;
}

function imageFor(request: CreateVm, { images }: VmDependencies): string {
  const image = request.imageId === undefined ? images.default() : images.get(request.imageId);
  if (!image) throw new BerthError('no_default_image');
  if (!image.kernel || !image.rootfs) throw new BerthError('image_incomplete');
  return image.id;
}

/** Never smaller than what it begins as. A disk that goes on from a snapshot's has had its room from the beginning. */
function rootDiskMiB(
  asked: number | undefined,
  imageId: string | null,
  snapshot: StoredSnapshot | null,
  { images, settings }: VmDependencies,
): number {
  if (snapshot) return Math.max(asked ?? settings.defaultDiskMiB, snapshot.diskMiB);
  const imageMiB = Math.ceil((imageId === null ? 0 : (images.get(imageId).rootfs?.bytes ?? 0)) / bytesPerMiB);
  return Math.max(asked ?? Math.max(settings.defaultDiskMiB, imageMiB + settings.diskHeadroomMiB), imageMiB);
}
