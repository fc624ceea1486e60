/** The typed calls that API folders make. This is the only door through which a VM is changed. */

import type { GuestClient } from '../guest/guest.ts';
import type { Snapshot, TemplateShape, Vm, VmEvent } from './model.ts';
import type { Quotas } from './quotas.ts';
import type { CreateVm } from './request.ts';
import type { VmUsage } from './usage.ts';

export interface StopOptions {
  /** Milliseconds the guest has to end by itself before the power button, and again before it is killed. */
  readonly graceMs?: number;
  /** Kill at once. */
  readonly force?: boolean;
}

export interface VmService {
  readonly quotas: Quotas;
  /** Grows with every change of any VM record: a cheap key for caches of rendered lists. */
  readonly revision: number;

  /** All VMs, oldest first. The array is shared and frozen; it is a new one after every change. */
  list(): readonly Vm[];
  /** Throws `vm_not_found`. */
  get(id: string): Vm;
  /** One tenant's VMs, oldest first; shared and frozen like {@link list}. */
  listOf(tenant: string): readonly Vm[];
  /** Throws `vm_not_found`, or `vm_not_owned` when it is another tenant's. Call it before each change for a tenant. */
  getOf(id: string, tenant: string): Vm;

  /** Resolves when the guest answers (state `running`). On any failure nothing of the VM is left. */
  create(request: CreateVm): Promise<Vm>;
  /**
   * Makes 1 to 64 copies of a running VM as it is at one instant, memory included: all of them, or none. Throws
   * `wrong_state` unless it runs.
   */
  fork(id: string, count: number): Promise<readonly Vm[]>;
  /** Makes the template that VMs of this image and size are cloned from, or finds that there is one. */
  warm(shape: TemplateShape): Promise<void>;
  /** Throws `wrong_state` unless created or stopped. */
  start(id: string): Promise<Vm>;
  /** Throws `wrong_state` unless running or paused. */
  stop(id: string, options?: StopOptions): Promise<Vm>;
  /** Stops as {@link stop} does, and starts again. */
  reboot(id: string, options?: StopOptions): Promise<Vm>;
  pause(id: string): Promise<Vm>;
  resume(id: string): Promise<Vm>;
  /**
   * Lets a running VM stand still until a request to its guest or a packet for it comes; idle VMs are parked by themselves.
   * Throws `wrong_state` unless running, `conflict` while its guest is in use, `unsupported` when its channel is optional.
   */
  park(id: string): Promise<void>;
  /** Changes cpus, memory or disk (grow only) of a VM that is created or stopped. */
  resize(
    id: string,
    change: { readonly cpus?: number; readonly memoryMiB?: number; readonly diskMiB?: number },
  ): Promise<Vm>;
  /** From any state. A second call throws `vm_not_found`. */
  remove(id: string): Promise<void>;

  /** What a VM uses; null when it has no process. */
  usage(id: string): Promise<VmUsage | null>;
  /** Path of the socket that controls the VM's process, for operators; it exists while the VM runs. */
  controlSocket(id: string): string;

  /**
   * The guest of a running VM; requests wake one that is parked. Throws `vm_not_found`, `wrong_state` when it does not run,
   * `guest_unavailable` when its channel is optional.
   */
  guest(id: string): GuestClient;

  /** The last lines of a log, at most 1000, from its last 256 KiB. `updatedAt` is null when the log does not exist yet. */
  log(
    id: string,
    kind: 'console' | 'engine',
    tail: number,
  ): Promise<{ readonly lines: readonly string[]; readonly truncated: boolean; readonly updatedAt: string | null }>;

  snapshot(id: string): Promise<Snapshot>;
  snapshots(): readonly Snapshot[];
  getSnapshot(id: string): Snapshot;
  removeSnapshot(id: string): Promise<void>;

  /** Calls back for each event until the returned function is called. */
  onEvent(listener: (event: VmEvent) => void): () => void;
}
