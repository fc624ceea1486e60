/** What a VM is. Records are immutable; a change makes a new record. */

import type { Egress, IpFamilies, RateLimit } from '../net/network.ts';

export type { IpFamilies, RateLimit } from '../net/network.ts';

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

/** A network interface. The guest's own names are by order: the first is its eth0. */
export interface VmNic {
  /** The creator's name for it, unique in the VM. */
  readonly name: string;
  /** An IPv4 address is held, though not used, where the interface is IPv6 only. */
  readonly addresses: VmAddresses;
  readonly families: IpFamilies;
  /** Resolvers the guest is told of; null: the host's. */
  readonly nameservers: readonly string[] | null;
  /** What the guest may receive, null for no limit. */
  readonly rxLimit: RateLimit | null;
  /** What the guest may send, null for no limit. */
  readonly txLimit: RateLimit | null;
}

/** A file of an asset directory that a disk begins as; never written to. */
export interface DiskAsset {
  /** Absolute, without symlinks. */
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
}

export interface RootDisk {
  /** The creator's name for it. */
  readonly name: string;
  readonly readOnly: boolean;
  /** Null: the image's, or the snapshot's. */
  readonly asset: DiskAsset | null;
}

/** A disk beside the root disk; the guest sees it behind that, in order: /dev/vdb, … */
export interface DataDisk {
  /** The creator's name for it, unique in the VM; the guest sees the first 20 characters as the disk's serial number. */
  readonly name: string;
  readonly readOnly: boolean;
  readonly asset: DiskAsset;
  /** Virtual size. */
  readonly sizeMiB: number;
}

/** What a VM boots that brings its own kernel. */
export interface VmBoot {
  /** Absolute paths in asset directories, without symlinks. */
  readonly kernel: string;
  readonly initrd: string | null;
}

/**
 * `required`: Berth's guest-init is the guest's init and serves the host; a VM runs once it answers. `optional`: the guest
 * is whatever its kernel starts; a VM runs once its process does, is asked to shut down by its power button, and
 * `VmService.guest` has none to give.
 */
export type GuestChannel = 'required' | 'optional';

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
  /** Null: the kernel and initramfs of its image or snapshot. */
  readonly boot: VmBoot | null;
  /** Kernel parameters of the creator's, added to those a VM needs; may be empty. */
  readonly kernelArgs: string;
  readonly guestChannel: GuestChannel;
  readonly rootDisk: RootDisk;
  readonly dataDisks: readonly DataDisk[];
  /** Those of the first network interface. */
  readonly addresses: VmAddresses;
  /** At least one. */
  readonly nics: readonly VmNic[];
  /** Holds for all its interfaces. */
  readonly egress: Egress;
  readonly startMode: StartMode | null;
  /** ISO 8601, UTC, milliseconds. */
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly stoppedAt: string | null;
  /** When the record last changed. */
  readonly changedAt: string;
  /** Why the VM stopped or failed, in words fit for a client; null while all is well. */
  readonly reason: string | null;
  /** Name in the VM's directory `console/` under which the console's log is found, too; null: none. */
  readonly consoleFile: string | null;
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
  /** What the API that made the VM keeps with it, opaque to all others; at most 64 KiB. */
  readonly apiRecord: string | null;
}

/** The combination that one template serves. */
export interface TemplateShape {
  readonly imageId: string;
  readonly cpus: number;
  readonly memoryMiB: number;
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
  /** Owner of the VM, or of the snapshot. */
  readonly tenant: string;
  readonly snapshotId?: string;
}
