import { BerthError } from '../common/errors.ts';
import type { StoredSnapshot } from '../store/snapshot-store.ts';
import type { StartMode } from './model.ts';
import type { CreateVm } from './request.ts';

/** What a new VM begins with, where it is not an image alone. */
export interface Origin {
  readonly snapshot: StoredSnapshot;
  /** `boot` takes the disk only; the others go on from the memory. */
  readonly mode: StartMode;
}

/** How a VM that is made from a client's snapshot begins. Throws `snapshot_mismatch` when its memory fits no such VM. */
export function originOf(snapshot: StoredSnapshot, request: CreateVm): Origin {
  // The memory knows the devices of the VM it was captured of, and no more.
  const hasMore = (request.disks?.length ?? 0) > 0 || (request.nics?.length ?? 0) > 1;
  const boots = snapshot.kind === 'disk' || request.restoreMemory === false || request.start === false || hasMore;
  if (boots) return { snapshot, mode: 'boot' };
  if (snapshot.cpus !== request.cpus || snapshot.memoryMiB !== request.memoryMiB) {
    const [has, wanted] = [snapshot, request].map(({ cpus, memoryMiB }) => `${cpus}/${memoryMiB}`);
    throw new BerthError('snapshot_mismatch', { reason: `cpu/mem mismatch: snapshot=${has} requested=${wanted}` });
  }
  return { snapshot, mode: 'restore' };
}
