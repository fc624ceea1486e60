import type { Admission } from '../common/concurrency.ts';
import type { Log } from '../common/log.ts';
import type { Engine } from '../engine/engine.ts';
import type { GuestClient, GuestUse, OpenChannel } from '../guest/guest.ts';
import type { ImageStore } from '../image/images.ts';
import type { Network } from '../net/network.ts';
import type { LoadedMemories } from '../snapshot/loaded-memories.ts';
import type { SnapshotStore } from '../store/snapshot-store.ts';
import type { Operation, VmStore } from '../store/vm-store.ts';
import type { Assets } from './assets.ts';
import type { VmLayout } from './layout.ts';
import type { LiveVms } from './live.ts';
import type { Renewal, Vm } from './model.ts';
import type { Quotas } from './quotas.ts';

export interface VmSettings {
  readonly quotas: Quotas;
  /** Size of a root disk nobody asked a size for, at least, MiB. */
  readonly defaultDiskMiB: number;
  /** How much larger than its image such a disk is at least, MiB: images have little room beside what is in them. */
  readonly diskHeadroomMiB: number;
  /** Milliseconds from process start to the guest's first answer. */
  readonly bootTimeoutMs: number;
  /** Longest time, ms, that a VM which boots keeps others from it. */
  readonly bootSlotMs: number;
  /** Milliseconds a guest has to shut down, first by itself, then by the power button. */
  readonly stopGraceMs: number;
  /** Space that new VMs and snapshots leave alone on the file system of the data directory, MiB. */
  readonly diskReserveMiB: number;
  /** Milliseconds between looks at all VMs that should run, and at the rules of their network. */
  readonly reconcileIntervalMs: number;
  /** First of the uids that VM processes run under; null when the daemon is not root. */
  readonly uidBase: number | null;
  /** Hundredths of one CPU a VM may use for each of its vCPUs, null for no limit. */
  readonly cpuPercentPerCpu: number | null;
  /** MiB a VM's process may hold beside the guest's memory, null for no limit. */
  readonly memoryOverheadMiB: number | null;
  readonly layers: LayerSettings;
  readonly templates: TemplateSettings;
  readonly spares: SpareSettings;
  /** Idle seconds after which a VM is parked that says nothing else; 0: never. */
  readonly parkAfterSeconds: number;
}

/** How chains of disk layers are kept short. */
export interface LayerSettings {
  /** Layers of a disk, beside its image, of which there may be more only until they are merged. */
  readonly merged: number;
  /** Milliseconds after the last of what made a chain longer before it is looked at. */
  readonly quietMs: number;
}

export interface TemplateSettings {
  /** Whether the first boot of a combination leaves a template behind. */
  readonly build: boolean;
  /** What templates may take on the disk; the newest is kept whatever its size. */
  readonly budgetBytes: number;
}

/** How many clones of the template used last are made before they are asked for. */
export interface SpareSettings {
  /** Processes that wait for the state. */
  readonly waiting: number;
  /** VMs that are restored and stand still. */
  readonly ready: number;
}

/** Everything the VM room works with; made once by the daemon. */
export interface VmDependencies {
  readonly store: VmStore;
  readonly snapshots: SnapshotStore;
  readonly engine: Engine;
  readonly network: Network;
  readonly images: ImageStore;
  readonly assets: Assets;
  readonly layout: VmLayout;
  readonly memories: LoadedMemories;
  readonly guestClient: (open: OpenChannel, options: { readonly use: GuestUse }) => GuestClient;
  readonly settings: VmSettings;
  /** Which boot of the host this is. */
  readonly hostBoot: string;
  /** Boots and restores at a time. */
  readonly admission: Admission;
  /** Captures at a time: one, for they copy memory aside. Those that wait hold no guest meanwhile. */
  readonly captures: Admission;
  readonly log: Log;
}

/** What the steps of one operation share. */
export interface OperationContext {
  readonly deps: VmDependencies;
  readonly live: LiveVms;
  readonly vm: Vm;
  readonly detail: Operation['detail'];
  readonly outcome: OperationOutcome;
  /** Aborted when the guest is to be given no more time to end by itself. */
  readonly hurry: AbortSignal;
}

/** What steps found out, for the VM's record. */
export interface OperationOutcome {
  renewal: readonly Renewal[] | null;
}
