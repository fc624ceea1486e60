/**
 * What every VM engine offers. An engine runs processes and devices; it never writes the store and remembers nothing:
 * everything it needs to find a VM again is in the VM's directory and in what the kernel says of the process.
 */

import type { Duplex } from 'node:stream';

export interface EngineDisk {
  /** Name within the VM, `[a-z][a-z0-9-]*`; the first disk is the guest's /dev/vda. */
  readonly name: string;
  /** What the guest sees as the disk's serial number, 20 characters of it; default the name. */
  readonly serial?: string;
  /** Absolute path of the image file. */
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly readOnly: boolean;
}

export interface EngineNic {
  readonly name: string;
  /** Existing tap device, opened by the engine with its own rights; or user-mode networking without privileges. */
  readonly backend:
    | { readonly kind: 'tap'; readonly tap: string }
    | { readonly kind: 'user'; readonly restrict: boolean };
  /** Six lower-case hex pairs joined by colons. */
  readonly mac: string;
}

export interface EngineVmSpec {
  readonly id: string;
  /** The VM's directory: exists, private to the daemon (the VM's process needs no right to it); sockets and logs go here. */
  readonly dir: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Absolute paths. */
  readonly kernel: string;
  readonly initrd: string | null;
  /** Added to what the engine itself needs on the kernel command line. */
  readonly kernelArgs: readonly string[];
  readonly disks: readonly EngineDisk[];
  readonly nics: readonly EngineNic[];
  /** `microvm` unless a device needs PCI; `auto` lets the engine choose. */
  readonly machine: 'auto' | 'microvm' | 'q35';
  /** Unprivileged uid and gid the VM's process runs under; null when the daemon itself is not root. */
  readonly uid: number | null;
  /** Enforced with cgroups where the host has them; ignored, and said so by `capabilities()`, where it has not. */
  readonly limits: {
    /** Hundredths of one CPU the process may use, null for no limit. */
    readonly cpuPercent: number | null;
    /**
     * MiB the process may hold beside the guest's own memory and what the engine knows it needs for emulation, null for
     * no limit.
     */
    readonly memoryOverheadMiB: number | null;
  };
}

/** The parts of a VM that its captured memory is tied to: how much of what there is, not which. */
export type EngineShape = Pick<EngineVmSpec, 'cpus' | 'memoryMiB' | 'machine'> & {
  /** Names, in order. */
  readonly disks: readonly string[];
  readonly nics: readonly { readonly name: string; readonly kind: 'tap' | 'user' }[];
};

/**
 * What a VM goes on from instead of booting. Both descriptors belong to the caller, who may close them once `prepare` has
 * returned.
 */
export interface EngineMemory {
  /** The guest's memory, mapped privately. What it reads must never change while a VM uses it. */
  readonly memoryFd: number;
  /** The state of its devices, as `capture` wrote it; read from where the descriptor is. */
  readonly stateFd: number;
}

/** An empty qcow2 that takes the guest's writes to a disk from one instant on: what is below it changes no more. */
export interface EngineLayer {
  readonly disk: string;
  readonly path: string;
  /**
   * Told, before the layer is put in place, that it may have the guest's writes from then on; and that it has none, when the
   * VM's process says that it was not. What becomes of the capture does not tell: the answer may be lost.
   */
  mayHaveWrites(may: boolean): void;
}

export interface EngineCapture {
  /** Size of the memory the VM was given: its process is not asked, which a guest may have got hold of. */
  readonly memoryMiB: number;
  /** Where the state of the devices goes: an empty file the VM's process may write, in a directory it may pass. */
  readonly statePath: string;
  /** Put in place at the instant of the capture. */
  readonly layer: EngineLayer | null;
  /** Called while the VM stands still, with the layer in place. A failure lets the VM go on and fails the capture. */
  atRest(): void;
  /**
   * Given all memory the guest has changed since it began: whole pages of {@link memoryPageBytes}, `page` the number of
   * the first. Pages that are not given are as in the memory the VM was prepared with, or zero when it booted. The buffer
   * is the callee's to keep until its promise settles.
   */
  take(page: number, bytes: Buffer): Promise<void>;
}

export interface EngineCaptured {
  /** How long the VM stood still. */
  readonly pausedMicros: number;
  /** Gives `take` what it has not been given yet. To be called once. */
  handOut(): Promise<void>;
}

export interface EngineMerge {
  readonly disk: string;
  /** Paths of the disk's files above the base. Which of them is the newest that the process has open, it is not asked. */
  readonly above: readonly string[];
  /** Path of the file that it is to stand on: one of those below it, in the same directory. */
  readonly base: string;
  /** Bytes copied in a second, null for as many as there can be. */
  readonly bytesPerSecond: number | null;
  /** Breaks it off. */
  readonly signal: AbortSignal;
}

/** Bytes in a page of guest memory. */
export const memoryPageBytes = 4096;

/** `stalled`: the engine itself holds the guest, because a write to its disk found the host's file system full. */
export type EngineState = 'running' | 'paused' | 'stalled' | 'absent';

export interface EngineObservation {
  readonly state: EngineState;
  readonly pid: number | null;
}

export interface EngineCapabilities {
  readonly name: string;
  /** What runs the guest's code, by a real probe. */
  readonly acceleration: 'kvm' | 'tcg';
  /** Why that acceleration, for `berth doctor` and the log. */
  readonly reason: string;
  readonly version: string;
  readonly cpuLimits: boolean;
  readonly memoryLimits: boolean;
}

/**
 * Why a VM's process ended: `shutdown` powered off, `reset` rebooted by its guest (the engine ends the process, the
 * service starts it anew), `crashed` anything else.
 */
export interface EngineExit {
  readonly id: string;
  readonly reason: 'shutdown' | 'reset' | 'crashed';
  /** For the operator's log. */
  readonly detail: string;
}

export interface EngineUsage {
  readonly pid: number;
  /** CPU time used so far. */
  readonly cpuMicros: number;
  readonly residentBytes: number;
  /** By the names of the spec's disks; what the guest asked for, since the process began. */
  readonly disks: ReadonlyMap<string, EngineDiskUsage>;
}

export interface EngineDiskUsage {
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly reads: number;
  readonly writes: number;
}

export interface Engine {
  readonly name: string;

  /** Probes the host; the answer is remembered for this (kernel, engine build, host boot). */
  capabilities(): Promise<EngineCapabilities>;

  /** Starts the process and lets the guest run. Fails, with nothing left running, if it does not come up. */
  start(spec: EngineVmSpec): Promise<void>;

  /**
   * Starts the process of a VM that is to go on from captured memory. It waits, guest stopped, for `restore`. Fails as
   * `start` does.
   */
  prepare(spec: EngineVmSpec, memory: EngineMemory): Promise<void>;

  /**
   * Loads the state of the devices into a prepared VM, which is then paused where it was captured. Throws
   * `snapshot_damaged` when the state is not one that fits; the process has then ended.
   */
  restore(id: string, dir: string): Promise<void>;

  /**
   * Stops a VM for an instant, or finds it stopped, and copies its devices' state and its memory; then it goes on as it
   * was, and the promise resolves.
   */
  capture(id: string, dir: string, capture: EngineCapture): Promise<EngineCaptured>;

  /**
   * What captured memory depends on: a VM can only go on from memory that was captured under the same fingerprint.
   * Hexadecimal, the same for all VMs of one shape on one build of the engine.
   */
  fingerprint(shape: EngineShape): Promise<string>;

  /**
   * Rate, kHz, of the counter by which guests that boot here tell the time, measured to some parts in ten thousand; null
   * where it does not matter on which host they go on, or cannot be measured.
   */
  counterKhz(): Promise<number | null>;

  /**
   * Takes into the newest layer of a live VM's disk what the layers between it and a lower one hold, while the guest goes on.
   * When the promise resolves, the newest layer's header names the lower one, and nobody reads those between for this VM. When
   * it rejects the disk is made of the same files as before; only if the process ended may it be either. The content is the
   * same at every instant. What an earlier daemon left of a merge is broken off first, as it is by `capture`.
   */
  mergeLayers(id: string, dir: string, merge: EngineMerge): Promise<void>;

  /** Makes a disk of a live VM larger, its guest told. */
  growDisk(id: string, dir: string, disk: string, bytes: number): Promise<void>;

  /**
   * Looks at the host: is a process of this VM alive, and does its guest run? Never throws for an absent VM; throws
   * `deadline_exceeded` for one whose process lives but does not answer.
   */
  observe(id: string, dir: string): Promise<EngineObservation>;

  /**
   * Begins watching a live VM (after `start`, or after a daemon restart): `onExit` fires once when it ends, `onChange`
   * whenever its guest was held or let go, by whomever. What it is then, `observe` tells.
   */
  watch(id: string, dir: string, onExit: (exit: EngineExit) => void, onChange?: () => void): Promise<void>;

  pause(id: string, dir: string): Promise<void>;
  /** Lets a guest go on that is paused or stalled; one whose host is still full stalls again at its next write. */
  resume(id: string, dir: string): Promise<void>;

  /** Presses the ACPI power button. Returns at once; the guest may ignore it. */
  powerButton(id: string, dir: string): Promise<void>;

  /** Resolves true once the process is gone, false after `timeoutMs`. */
  waitForExit(id: string, dir: string, timeoutMs: number): Promise<boolean>;

  /** Ends the process and everything the engine made on the host for it (cgroup, sockets). Idempotent. */
  destroy(id: string, dir: string): Promise<void>;

  /** Opens the byte stream that guest-init serves. */
  openChannel(id: string, dir: string): Promise<Duplex>;

  /** Path of the guest's serial console log: bounded in size, older part in `<path>.1`. */
  consoleLog(dir: string): string;
  /** Path of the engine's own log. */
  engineLog(dir: string): string;

  /** CPU time the VM's process has used so far, microseconds; null when there is none. Cheap, unlike {@link usage}. */
  cpuMicros(id: string, dir: string): Promise<number | null>;

  /** Null when there is no process. */
  usage(id: string, dir: string): Promise<EngineUsage | null>;

  /** Path of the socket that the process is controlled by. */
  controlSocket(dir: string): string;

  /** Ids of all VMs under `vmsRoot` (their directories' parent) with a live process, whether or not the store knows them. */
  listLive(vmsRoot: string): Promise<ReadonlyMap<string, number>>;

  /** Lets go of connections and timers; VMs keep running. */
  close(): Promise<void>;
}
