/** From Berth's records to this dialect's JSON. Rendered once per record: records are immutable. */

import type { Image } from '../../image/images.ts';
import type { VmService } from '../../vm/api.ts';
import type { Snapshot, Vm, VmState } from '../../vm/model.ts';
import type { ApiKeyRecord } from './ports.ts';
import type { ApiKeyBody, ImageBody, SnapshotBody, VmBody, WireState } from './schemas.ts';

const states: Readonly<Record<VmState, WireState>> = {
  created: 'CREATED',
  starting: 'STARTING',
  running: 'RUNNING',
  // The dialect has no pause. Such a VM does not run and can be started, which is what STOPPED means to a client.
  paused: 'STOPPED',
  stopping: 'STOPPING',
  stopped: 'STOPPED',
  failed: 'ERROR',
  removing: 'STOPPING',
};

/** The dialect's name of a state; a text that is no state of ours is returned in capitals. */
export function wireState(state: string): string {
  return Object.hasOwn(states, state) ? states[state as VmState] : state.toUpperCase();
}

export function encodeVm(vm: Vm): VmBody {
  return {
    id: vm.id,
    state: states[vm.state],
    cpu: vm.cpus,
    memMb: vm.memoryMiB,
    guestIp: vm.addresses.ipv4,
    outboundInternet: vm.egress.outbound,
    createdAt: vm.createdAt,
    ...(vm.startMode === null ? {} : { provisionMode: vm.startMode === 'restore' ? 'snapshot' : 'boot' }),
    ...(vm.imageId === null ? {} : { imageId: vm.imageId }),
    peerLinks: [],
    ...(vm.parked ? { parked: true } : {}),
  };
}

/** `vmId` is what the reference documents, `sourceVmId` what the original sends; both are here. */
export function encodeSnapshot(snapshot: Snapshot): SnapshotBody {
  const disk = snapshot.kind === 'disk';
  return {
    id: snapshot.id,
    kind: disk ? 'user_overlay' : 'vm',
    createdAt: snapshot.createdAt,
    cpu: snapshot.cpus,
    memMb: snapshot.memoryMiB,
    ...(snapshot.imageId === null
      ? {}
      : { imageId: snapshot.imageId, ...(disk ? { baseSeedSnapshotId: seedId(snapshot.imageId) } : {}) }),
    sourceVmId: snapshot.sourceVmId,
    vmId: snapshot.sourceVmId,
    hasDisk: !disk,
    hasOverlay: disk,
  };
}

/** The id under which clients look for the prepared state of an image. */
function seedId(imageId: string): string {
  return `seed-${imageId}`;
}

function seedTime(image: Image): string | null {
  if (image.kernel === null || image.rootfs === null) return null;
  const [, later = null] = [image.kernel.uploadedAt, image.rootfs.uploadedAt].sort();
  return later;
}

/**
 * Clients of the last revision wait until an image's seed appears among the internal snapshots. Berth needs no seed:
 * a complete image is ready at once, and is shown as one.
 */
export function encodeSeed(image: Image): SnapshotBody | null {
  const createdAt = seedTime(image);
  if (createdAt === null) return null;
  return {
    id: seedId(image.id),
    kind: 'image_seed',
    createdAt,
    cpu: 1,
    memMb: 256,
    imageId: image.id,
    hasDisk: false,
    hasOverlay: true,
    internal: true,
  };
}

/** An image as the answer to its creation. */
export function encodeNewImage(image: Image): ImageBody {
  const seededAt = seedTime(image);
  return {
    id: image.id,
    name: image.name,
    description: image.description,
    createdAt: image.createdAt,
    kernelFilename: image.kernel === null ? null : 'vmlinux',
    rootfsFilename: image.rootfs === null ? null : 'rootfs.ext4',
    baseRootfsBytes: image.rootfs?.bytes ?? null,
    seedSnapshotId: seededAt === null ? null : seedId(image.id),
    seedStatus: seededAt === null ? null : 'ready',
    seedUpdatedAt: seededAt,
    seedError: null,
  };
}

/** An image as an item of the list. */
export function encodeImage(image: Image): ImageBody {
  return {
    ...encodeNewImage(image),
    kernelUploadedAt: image.kernel?.uploadedAt ?? null,
    rootfsUploadedAt: image.rootfs?.uploadedAt ?? null,
    isDefault: image.isDefault,
    hasKernel: image.kernel !== null,
    hasRootfs: image.rootfs !== null,
  };
}

export function encodeApiKey(key: ApiKeyRecord): ApiKeyBody {
  const { id, name, prefix, createdAt, expiresAt, revokedAt, lastUsedAt } = key;
  return { id, name, prefix, createdAt, expiresAt, revokedAt, lastUsedAt };
}

/** Renders VMs to bytes and remembers them: the list per revision, each VM per record. */
export class Codec {
  readonly #vms: VmService;
  readonly #rendered = new WeakMap<Vm, Buffer>();
  #list: { readonly revision: number; readonly json: Buffer } | null = null;

  constructor(vms: VmService) {
    this.#vms = vms;
  }

  vm(vm: Vm): Buffer {
    let json = this.#rendered.get(vm);
    if (json === undefined) {
      const renewal = vm.renewal === null ? {} : { renewal: [...vm.renewal] };
      json = Buffer.from(JSON.stringify({ ...encodeVm(vm), ...renewal } satisfies VmBody));
      this.#rendered.set(vm, json);
    }
    return json;
  }

  vmList(): Buffer {
    const revision = this.#vms.revision;
    if (this.#list?.revision !== revision) {
      this.#list = { revision, json: Buffer.from(JSON.stringify(this.#vms.list().map(encodeVm))) };
    }
    return this.#list.json;
  }
}
