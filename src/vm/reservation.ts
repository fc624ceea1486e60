import { randomUUID } from 'node:crypto';
import { BerthError } from '../common/errors.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import type { Operation } from '../store/vm-store.ts';
import type { VmDependencies } from './context.ts';
import { checkSpace } from './disk-space.ts';
import { allocateAddresses, allocateUid } from './leases.ts';
import type { CreateVm, Vm } from './model.ts';
import { journalEntry } from './operations.ts';
import type { Origin } from './origin.ts';
import { checkParkAfter, checkSize, checkTotals, type Demand } from './quotas.ts';
import { newLayerName } from './steps/files.ts';

const bytesPerMiB = 1024 * 1024;

/** Ids become file names, and part of socket paths that have a limit. */
const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/;

/**
 * Everything that can be refused about a new VM but its id is refused here, before anything is touched. Returns what it
 * will use.
 */
export async function checkRequest(
  request: CreateVm,
  others: readonly Vm[],
  origin: Origin | null,
  deps: VmDependencies,
): Promise<{ readonly demand: Demand; readonly imageId: string | null }> {
  const { images, settings } = deps;
  const snapshot = origin?.snapshot ?? null;
  checkParkAfter(request.parkAfterSeconds ?? null);
  const imageId = snapshot ? snapshot.imageId : imageFor(request, deps);
  const demand = {
    cpus: request.cpus,
    memoryMiB: request.memoryMiB,
    diskMiB: Math.max(request.diskMiB ?? settings.defaultDiskMiB, smallestDiskMiB(imageId, snapshot, deps)),
  };
  checkSize(demand, settings.quotas);
  checkTotals(others, demand, settings.quotas, { active: request.start !== false });
  await checkSpace(deps.layout.home, settings.diskReserveMiB);
  // Proves that the image is whole, and makes its initramfs if this build has none yet.
  if (!snapshot) await images.files(imageId ?? '');
  return { demand, imageId };
}

/**
 * The record of a new VM with its leases, and the journal entry. Callers run this one at a time, or two VMs would be given
 * one address. What `spares` names holds leases, but counts for nothing else.
 */
export async function prepareVm(
  request: CreateVm,
  vms: readonly Vm[],
  spares: ReadonlySet<string>,
  origin: Origin | null,
  deps: VmDependencies,
): Promise<{ vm: Vm; operation: Operation }> {
  const { network, settings, engine } = deps;
  const snapshot = origin?.snapshot ?? null;
  const id = request.id ?? randomUUID();
  if (!idPattern.test(id))
    throw new BerthError('invalid_argument', {
      reason: 'an id is 1 to 40 letters, digits, - or _, a letter or digit first',
    });
  if (vms.some((vm) => vm.id === id)) throw new BerthError('vm_exists', { id });
  const counted = vms.filter((vm) => !spares.has(vm.id));
  const { demand, imageId } = await checkRequest(request, counted, origin, deps);
  const addresses = allocateAddresses(vms, network.plan);
  const now = new Date().toISOString();
  const vm: Vm = {
    id,
    name: request.name ?? `vm-${id.slice(0, 8)}`,
    tenant: request.tenant ?? '',
    state: request.start === false ? 'created' : 'starting',
    engine: engine.name,
    ...demand,
    imageId,
    snapshotId: snapshot?.role === 'user' ? snapshot.id : null,
    uid: allocateUid(vms, settings.uidBase),
    boot: null,
    kernelArgs: '',
    guestChannel: 'required',
    rootDisk: { name: 'root', readOnly: false, asset: null },
    dataDisks: [],
    addresses,
    nics: [{ name: 'eth0', addresses, families: 'dual', nameservers: null, rxLimit: null, txLimit: null }],
    egress: request.egress,
    startMode: null,
    createdAt: now,
    startedAt: null,
    stoppedAt: null,
    changedAt: now,
    reason: null,
    consoleFile: null,
    labels: request.labels ?? {},
    apiRecord: null,
    parkAfterSeconds: request.parkAfterSeconds ?? null,
    parked: false,
    hidden: request.hidden ?? false,
    renewal: null,
  };
  const operation = journalEntry(id, 'create', {
    layer: newLayerName(),
    snapshotId: snapshot?.id ?? null,
    belowLayer: snapshot?.layer ?? null,
    belowDiskMiB: snapshot?.diskMiB ?? null,
    memory: origin !== null && origin.mode !== 'boot' ? 1 : 0,
  });
  return { vm, operation };
}

function imageFor(request: CreateVm, { images }: VmDependencies): string {
  const image = request.imageId === undefined ? images.default() : images.get(request.imageId);
  if (!image) throw new BerthError('no_default_image');
  if (!image.kernel || !image.rootfs) throw new BerthError('image_incomplete');
  return image.id;
}

function smallestDiskMiB(imageId: string | null, snapshot: StoredSnapshot | null, { images }: VmDependencies): number {
  if (snapshot) return snapshot.diskMiB;
  const bytes = imageId === null ? 0 : (images.get(imageId).rootfs?.bytes ?? 0);
  return Math.ceil(bytes / bytesPerMiB);
}
