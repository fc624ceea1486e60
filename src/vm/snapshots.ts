import { randomUUID } from 'node:crypto';
import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BerthError } from '../common/errors.ts';
import { memoryFiles } from '../snapshot/memory-files.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import { layerNames, maxLayers } from './disk-chain.ts';
import { checkSpace } from './disk-space.ts';
import { readManifest } from './manifest.ts';
import type { Merging } from './merging.ts';
import type { Vm } from './model.ts';
import { journalEntry, type Operations } from './operations.ts';
import { snapshotPlan } from './plans.ts';
import { checkSnapshots } from './quotas.ts';
import type { CreateVm } from './request.ts';
import { NotUndoneError } from './run-steps.ts';
import { newLayerName } from './steps/files.ts';

/** With more layers than that a snapshot waits until they are merged: so many more are there before it is refused. */
const longestUnmerged = maxLayers - 8;

/** What is to be made of a VM. */
export type SnapshotPurpose =
  | { readonly role: 'user' | 'fork' }
  | { readonly role: 'template'; readonly templateKey: string };

/** The snapshots there are, and the making of them. */
export class Snapshots {
  readonly #operations: Operations;
  readonly #merging: Pick<Merging, 'now' | 'want'>;
  readonly #byId = new Map<string, StoredSnapshot>();
  /** Clients' snapshots that are being made: they count as if they were there. */
  readonly #underWay = new Set<Pick<StoredSnapshot, 'tenant'>>();
  /** How many VMs are being made from a snapshot right now. */
  readonly #held = new Map<string, number>();

  constructor(operations: Operations, merging: Pick<Merging, 'now' | 'want'>) {
    this.#operations = operations;
    this.#merging = merging;
  }

  /** Takes over what the store has. A fork that was cut off is taken back; its snapshot is of no use to anyone. */
  async load(snapshots: readonly StoredSnapshot[]): Promise<void> {
    for (const snapshot of snapshots) {
      if (snapshot.role === 'fork') await this.#operations.deps.snapshots.delete(snapshot.id);
      else this.#byId.set(snapshot.id, snapshot);
    }
  }

  /** Those of clients. */
  list(): readonly StoredSnapshot[] {
    return this.all().filter(({ role }) => role === 'user');
  }

  all(): readonly StoredSnapshot[] {
    return [...this.#byId.values()];
  }

  /** One of a client's. Throws `snapshot_not_found`. */
  get(id: string): StoredSnapshot {
    const snapshot = this.#byId.get(id);
    if (snapshot?.role !== 'user') throw new BerthError('snapshot_not_found');
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

  /** Takes a snapshot of a running VM, memory included, whose operations the caller holds back meanwhile. */
  async take(vm: Vm, purpose: SnapshotPurpose): Promise<StoredSnapshot> {
    const { deps, records } = this.#operations;
    if (!isCapturable(vm))
      throw new BerthError('unsupported', { feature: 'A snapshot of a VM with devices of its own' });
    using _ = purpose.role === 'user' ? this.#claim(vm.tenant) : null;
    const layers = async () => (await layerNames(deps.layout.dir(vm.id))).length;
    // Merging in the background has not kept up.
    if ((await layers()) > longestUnmerged) await this.#merging.now(vm);
    if ((await layers()) > maxLayers)
      throw new BerthError('quota_exceeded', { resource: 'Snapshot', limit: `layers=${maxLayers} of one disk` });
    // As much as its memory can take, beside what is left alone.
    await checkSpace(deps.layout.home, deps.settings.diskReserveMiB + vm.memoryMiB);
    const manifest = await readManifest(deps.layout.manifest(vm.id));
    if (!manifest) throw new BerthError('internal');
    const id = `snap-${randomUUID()}`;
    const operation = journalEntry(vm.id, 'snapshot', {
      snapshotId: id,
      oldLayer: manifest.layer,
      newLayer: newLayerName(),
      // Clients may boot from its disk; what is cloned from the others always has the memory.
      bootable: purpose.role === 'user' ? 1 : 0,
      // It goes as soon as the copies are there, and with the daemon.
      passing: purpose.role === 'fork' ? 1 : 0,
    });
    await this.#operations.begin(vm, operation);
    let snapshot: StoredSnapshot;
    try {
      await this.#operations.run(snapshotPlan, vm, operation);
      snapshot = Object.freeze({
        id,
        kind: 'memory',
        createdAt: new Date().toISOString(),
        sourceVmId: vm.id,
        tenant: vm.tenant,
        imageId: vm.imageId,
        cpus: vm.cpus,
        memoryMiB: vm.memoryMiB,
        diskMiB: vm.diskMiB,
        layer: manifest.layer,
        role: purpose.role,
        templateKey: purpose.role === 'template' ? purpose.templateKey : null,
        bytes: await ownBytes(deps.layout.snapshot(id), manifest.layer),
        lastUsedAt: null,
      });
      await deps.snapshots.publish(snapshot);
    } catch (error) {
      // Whole, perhaps, but nobody will know of it.
      await rm(deps.layout.snapshot(id), { recursive: true, force: true });
      await this.#operations.finish(vm, {});
      // What could not be undone is an empty layer, or files without a row: harmless to the VM, which runs on.
      throw error instanceof NotUndoneError ? error.cause : error;
    } finally {
      // The disk has another layer, perhaps.
      this.#merging.want(vm.id);
    }
    this.#byId.set(id, snapshot);
    if (purpose.role === 'user') records.emit('snapshot.created', vm, id);
    return snapshot;
  }

  /** Counts a snapshot of a client's until it is let go, as it is when it is there, or failed. Throws `quota_exceeded`. */
  #claim(tenant: string): Disposable {
    checkSnapshots([...this.list(), ...this.#underWay], tenant, this.#operations.deps.settings.quotas);
    const claim = { tenant };
    this.#underWay.add(claim);
    return {
      [Symbol.dispose]: () => {
        this.#underWay.delete(claim);
      },
    };
  }

  /**
   * Runs `task`, which reads the snapshot's files; the snapshot cannot be removed meanwhile. Throws `snapshot_not_found` when
   * it was removed since it was looked up.
   */
  async holding<T>(id: string | null, task: () => Promise<T>): Promise<T> {
    if (id === null) return task();
    if (!this.#byId.has(id)) throw new BerthError('snapshot_not_found');
    this.#held.set(id, (this.#held.get(id) ?? 0) + 1);
    try {
      return await task();
    } finally {
      const left = (this.#held.get(id) ?? 1) - 1;
      if (left === 0) this.#held.delete(id);
      else this.#held.set(id, left);
    }
  }

  isHeld(id: string): boolean {
    return this.#held.has(id);
  }

  /** Whether it is there, of whatever role. */
  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** Notes that a VM was made from it. The VM is there: that it cannot be written, as on a full disk, is logged. */
  async used(id: string): Promise<void> {
    const snapshot = this.#byId.get(id);
    if (!snapshot) return;
    const lastUsedAt = new Date().toISOString();
    this.#byId.set(id, Object.freeze({ ...snapshot, lastUsedAt }));
    const { log, snapshots } = this.#operations.deps;
    try {
      await snapshots.setLastUsed(id, lastUsedAt);
    } catch (error) {
      log.warn({ err: error, snapshot: id }, 'the use of a snapshot could not be written');
    }
  }

  /** Of whatever role. Throws `snapshot_in_use` while a VM is being made from it, `snapshot_not_found` when it is gone. */
  async remove(snapshot: StoredSnapshot): Promise<void> {
    const { id, role, sourceVmId, tenant } = snapshot;
    const { deps, records } = this.#operations;
    if (this.#held.has(id)) throw new BerthError('snapshot_in_use');
    // Nobody is to take it up while its row is being removed.
    if (!this.#byId.delete(id)) throw new BerthError('snapshot_not_found');
    // The row goes first: files without a row are swept at the next start, a row without files would be a lie. VMs made
    // from the snapshot hold links of their own.
    try {
      await deps.snapshots.delete(id);
    } catch (error) {
      this.#byId.set(id, snapshot);
      throw error;
    }
    const dir = deps.layout.snapshot(id);
    await deps.memories.forget(dir);
    await rm(dir, { recursive: true, force: true });
    if (role === 'user') records.emit('snapshot.removed', { id: sourceVmId, tenant }, id);
  }
}

/** Whether all there is of a VM is one disk, one network interface and a guest that can be asked to hold still. */
function isCapturable({ boot, dataDisks, nics, rootDisk, guestChannel }: Vm): boolean {
  return (
    boot === null && dataDisks.length === 0 && nics.length === 1 && !rootDisk.readOnly && guestChannel === 'required'
  );
}

/** What a snapshot takes on the disk that nothing else does. */
async function ownBytes(dir: string, layer: string): Promise<number> {
  const { memory, state } = memoryFiles(dir);
  const stats = await Promise.all([memory, state, join(dir, layer)].map((path) => stat(path)));
  return stats.reduce((sum, { blocks }) => sum + blocks * 512, 0);
}
