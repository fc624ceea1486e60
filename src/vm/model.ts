/** What a VM is. Records are immutable; a change makes a new record. */

import type { Egress } from '../net/network.ts';

export const vmStates = [
  'created',
  'starting',
  'running',
  'paused',
  'stopping',
  'stopped',
  'failed',
  'removing',
] as const;
export type VmState = (typeof vmStates)[number];

/**
 * How the VM came to run the last time: a boot of its kernel; as a clone of a template of its image, which its maker
 * cannot tell from a boot; or from the memory of a snapshot.
 */
export type StartMode = 'boot' | 'clone' | 'restore';

/** One thing a VM that was not booted was given of its own before it counted as running. */
export interface Renewal {
  /** E.g. `entropy`, `clock`, `machine-id`. */
  readonly name: string;
  readonly outcome: 'done' | 'skipped' | 'failed';
  /** For the reader, at most 200 characters. */
  readonly detail: string;
}

export interface VmAddresses {
  readonly ipv4: string;
  readonly ipv6: string | null;
  readonly mac: string;
  readonly tap: string;
}

export interface Vm {
  /** UUIDv4 unless the creator chose another. */
  readonly id: string;
  readonly name: string;
  /** Owner; empty for the host's own operator. */
  readonly tenant: string;
  readonly state: VmState;
  readonly engine: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Virtual size of the root disk. */
  readonly diskMiB: number;
  readonly imageId: string | null;
  /** Snapshot the VM was made from. */
  readonly snapshotId: string | null;
  readonly uid: number | null;
  readonly addresses: VmAddresses;
  readonly egress: Egress;
  readonly startMode: StartMode | null;
  /** ISO 8601, UTC, milliseconds. */
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly stoppedAt: string | null;
  /** Why the VM stopped or failed, in words fit for a client; null while all is well. */
  readonly reason: string | null;
  /** Free key-value pairs of the creator; at most 64 pairs. */
  readonly labels: Readonly<Record<string, string>>;
  /** Whole seconds of idleness after which the VM is parked; 0: never; null: as the host is configured. */
  readonly parkAfterSeconds: number | null;
  /** Stands still until somebody needs it. To its users it runs: only ever true in state `running`. */
  readonly parked: boolean;
  /** Not to be shown to anyone: kept ready for later, or part of something that is not complete yet. */
  readonly hidden: boolean;
  /** Null for a VM that booted. */
  readonly renewal: readonly Renewal[] | null;
}

export interface CreateVm {
  readonly id?: string;
  readonly name?: string;
  readonly tenant?: string;
  /** Whole number, at least 1. */
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Virtual size of the root disk; smaller than the image's rootfs is raised to it; omitted: the configured default. */
  readonly diskMiB?: number;
  /** Omitted: the snapshot's image, else the default image. */
  readonly imageId?: string;
  readonly snapshotId?: string;
  /** Whether to go on from the snapshot's memory, where it has any, instead of booting from its disk; default true. */
  readonly restoreMemory?: boolean;
  readonly egress: Egress;
  readonly labels?: Readonly<Record<string, string>>;
  /** Whole seconds, at most a day; 0: never; null or omitted: as the host is configured. */
  readonly parkAfterSeconds?: number | null;
  /** False leaves the VM in `created`; default true. */
  readonly start?: boolean;
  /** See {@link Vm.hidden}; default false. */
  readonly hidden?: boolean;
}

export interface Snapshot {
  /** `snap-<uuid>`. */
  readonly id: string;
  readonly kind: 'disk' | 'memory';
  readonly createdAt: string;
  readonly sourceVmId: string;
  readonly tenant: string;
  readonly imageId: string | null;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly diskMiB: number;
}

export interface StopOptions {
  /** Milliseconds the guest has to end by itself before the power button, and again before it is killed. */
  readonly graceMs?: number;
  /** Kill at once. */
  readonly force?: boolean;
}

/** Something that happened, for activity feeds and watchers. Texts carry no secrets. */
export interface VmEvent {
  readonly id: number;
  readonly at: string;
  readonly type:
    | 'vm.created'
    | 'vm.started'
    | 'vm.stopped'
    | 'vm.paused'
    | 'vm.resumed'
    | 'vm.resized'
    | 'vm.removed'
    | 'vm.failed'
    | 'snapshot.created'
    | 'snapshot.removed';
  readonly vmId: string;
  readonly snapshotId?: string;
}

/** What the host lets VMs use in total, and one VM at most. */
export interface Quotas {
  readonly maxVms: number;
  readonly maxSnapshots: number;
  readonly maxCpusPerVm: number;
  readonly maxMemoryMiBPerVm: number;
  readonly minMemoryMiBPerVm: number;
  readonly maxDiskMiBPerVm: number;
  /** Sums over VMs that run or start. */
  readonly totalCpus: number;
  readonly totalMemoryMiB: number;
  /** Sum of virtual disk sizes over all VMs. */
  readonly totalDiskMiB: number;
}
