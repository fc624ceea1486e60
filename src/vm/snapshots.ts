import { randomUUID } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { BerthError } from '../common/errors.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import { checkSpace } from './disk-space.ts';
import { isLayerName } from './layout.ts';
import { readManifest } from './manifest.ts';
import type { CreateVm, Snapshot, Vm } from './model.ts';
import { journalEntry, type Operations } from './operations.ts';
import { snapshotPlan } from './plans.ts';
import { NotUndoneError } from './run-steps.ts';
import { newLayerName } from './steps/files.ts';

/** Every snapshot adds a layer to the VM's disk, and QEMU opens, and looks through, every one of them. */
const maxLayers = 32;

/** The snapshots there are, and the making of them. */
export class Snapshots {
  readonly #operations: Operations;
  readonly #byId = new Map<string, StoredSnapshot>();
  /** How many VMs are being made from a snapshot right now. */
  readonly #held = new Map<string, number>();

  constructor(operations: Operations) {
    this.#operations = operations;
  }

  load(snapshots: readonly StoredSnapshot[]): void {
    for (const snapshot of snapshots) this.#byId.set(snapshot.id, snapshot);
  }

  list(): readonly StoredSnapshot[] {
    return [...this.#byId.values()];
  }

  get(id: string): StoredSnapshot {
    const snapshot = this.#byId.get(id);
    if (!snapshot) throw new BerthError('snapshot_not_found');
    return snapshot;
  }

  /** The snapshot a new VM is made from; one of another tenant does not exist for it. */
  forCreate(request: CreateVm): StoredSnapshot | null {
    if (request.snapshotId === undefined) return null;
    const snapshot = this.get(request.snapshotId);
    if (snapshot.tenant !== (request.tenant ?? '')) throw new BerthError('snapshot_not_found');
    if (request.imageId !== undefined && snapshot.imageId !== null && request.imageId !== snapshot.imageId)
      throw new BerthError('snapshot_mismatch', { reason: `snapshot image=${snapshot.imageId} vm=${request.imageId}` });
    return snapshot;
  }

  /** Takes a disk snapshot of a running VM whose operations the caller holds back meanwhile. */
  async take(vm: Vm): Promise<Snapshot> {
    const { deps, records } = this.#operations;
    const { maxSnapshots } = deps.settings.quotas;
    if (this.#byId.size >= maxSnapshots)
      throw new BerthError('quota_exceeded', { resource: 'Snapshot', limit: `maxSnapshots=${maxSnapshots}` });
    const layers = (await readdir(deps.layout.dir(vm.id))).filter(isLayerName).length;
    if (layers > maxLayers)
      throw new BerthError('quota_exceeded', { resource: 'Snapshot', limit: `layers=${maxLayers} of one disk` });
    await checkSpace(deps.layout.home, deps.settings.diskReserveMiB);
    const manifest = await readManifest(deps.layout.manifest(vm.id));
    if (!manifest) throw new BerthError('internal');
    const snapshot: StoredSnapshot = Object.freeze({
      id: `snap-${randomUUID()}`,
      kind: 'disk',
      createdAt: new Date().toISOString(),
      sourceVmId: vm.id,
      tenant: vm.tenant,
      imageId: vm.imageId,
      cpus: vm.cpus,
      memoryMiB: vm.memoryMiB,
      diskMiB: vm.diskMiB,
      layer: manifest.layer,
    });
    const operation = journalEntry(vm.id, 'snapshot', {
      snapshotId: snapshot.id,
      oldLayer: manifest.layer,
      newLayer: newLayerName(),
    });
    await this.#operations.begin(vm, operation);
    try {
      await this.#operations.run(snapshotPlan, vm, operation);
    } catch (error) {
      await this.#operations.finish(vm, {});
      // What could not be undone is an empty layer, or files without a row: harmless to the VM, which runs on.
      throw error instanceof NotUndoneError ? error.cause : error;
    }
    await deps.snapshots.publish(snapshot);
    this.#byId.set(snapshot.id, snapshot);
    records.emit('snapshot.created', vm, snapshot.id);
    return snapshot;
  }

  /** Runs `task`, which reads the snapshot's files; the snapshot cannot be removed meanwhile. */
  async holding<T>(id: string | null, task: () => Promise<T>): Promise<T> {
    if (id === null) return task();
    this.#held.set(id, (this.#held.get(id) ?? 0) + 1);
    try {
      return await task();
    } finally {
      const left = (this.#held.get(id) ?? 1) - 1;
      if (left === 0) this.#held.delete(id);
      else this.#held.set(id, left);
    }
  }

  async remove(id: string): Promise<void> {
    const { deps, records } = this.#operations;
    const snapshot = this.get(id);
    if (this.#held.has(id)) throw new BerthError('snapshot_in_use');
    // The row goes first: files without a row are swept at the next start, a row without files would be a lie. VMs made
    // from the snapshot hold links of their own.
    await deps.snapshots.delete(id);
    this.#byId.delete(id);
    await rm(deps.layout.snapshot(id), { recursive: true, force: true });
    records.emit('snapshot.removed', { id: snapshot.sourceVmId, tenant: snapshot.tenant }, id);
  }
}
