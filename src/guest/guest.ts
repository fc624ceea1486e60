/** The host's view of guest-init: what can be asked of a running guest. */

import type { Duplex, Readable, Writable } from 'node:stream';

export interface GuestHello {
  /** Version of the guest protocol; another than the host's is refused. */
  readonly protocol: number;
  /** Fresh for every boot of the guest kernel. */
  readonly bootId: string;
  /** Guest kernel release, e.g. `6.1.0-56-cloud-amd64`. */
  readonly kernel: string;
}

export interface GuestNetworkConfig {
  /** The guest's interface is found by its MAC. */
  readonly mac: string;
  /** Address with prefix length, e.g. `172.16.0.2/24`. */
  readonly ipv4: string | null;
  readonly gateway4: string | null;
  readonly ipv6: string | null;
  readonly gateway6: string | null;
  /** Written to /etc/resolv.conf (in order); empty leaves the file alone. */
  readonly nameservers: readonly string[];
}

/** What makes a guest a particular machine. Applied in one round trip before the VM counts as running. */
export interface GuestIdentity {
  readonly hostname: string;
  /** Host wall clock, milliseconds since the epoch, at the moment of the call. */
  readonly unixTimeMs: number;
  /** Host random bytes credited to the guest kernel's CSPRNG, 32 to 512 bytes. */
  readonly entropy: Uint8Array;
  /** Null leaves the network alone, or takes it down when `renew` is set. */
  readonly network: GuestNetworkConfig | null;
  /** The guest has its network already: it stays also when `renew` is set. Default false; only without `network`. */
  readonly keepNetwork?: boolean;
  /** Interfaces beside the first, at most 7; name servers are told with the first. */
  readonly furtherNetworks?: readonly Omit<GuestNetworkConfig, 'nameservers'>[];
  /**
   * True for a machine that is new: a copy of another one, or the first boot from an image. What must be unique to a
   * machine is made anew: machine id, SSH host keys where the image has an SSH server or its keys, random seeds on disk.
   */
  readonly renew?: boolean;
  /**
   * Bytes of the root disk, to which the root file system is grown. 0: those that the guest sees now, which is enough
   * after a boot (default). Null: the disk is as large as it was. A guest learns of a resized disk some time later, so a
   * copy with a larger disk needs the number.
   */
  readonly diskBytes?: number | null;
}

/** One thing done to make a guest the machine it is to be. */
export interface GuestStep {
  /**
   * `clock`, `entropy`, `sessions`, `thaw`, `network`, `hostname`, `nameservers`, `machine-id`, `ssh-host-keys`,
   * `random-seeds` or `disk`.
   */
  readonly name: string;
  /** `failed` is only told of what a machine can do without; other failures fail the whole. */
  readonly outcome: 'done' | 'skipped' | 'failed';
  /** For people; at most 160 characters, printable. */
  readonly detail: string;
  /** Measured in the guest. */
  readonly micros: number;
}

export interface GuestIdentified {
  readonly hello: GuestHello;
  /** In the order they were done; at most 32. */
  readonly steps: readonly GuestStep[];
  /** How far the guest's clock was ahead of the host's before it was set, milliseconds. */
  readonly clockSkewMs: number;
}

export interface GuestExecRequest {
  /** argv[0] is looked up in the guest's own fixed PATH, never in the caller's. 1 to 1024 entries, 1 MiB in all. */
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  /** The whole environment of the process. */
  readonly env: Readonly<Record<string, string>>;
  readonly uid: number;
  readonly gid: number;
  /** Milliseconds; the whole process group is killed when it is over. null: no limit. */
  readonly timeoutMs: number | null;
  /** Gives the process a terminal of this size; stdout carries both streams. */
  readonly pty?: { readonly cols: number; readonly rows: number };
  /** When true standard input is open until `stdin` ends; otherwise it is /dev/null. */
  readonly stdin?: boolean;
}

export interface GuestExecExit {
  /** 0 to 255, or null when the process was ended by a signal. */
  readonly exitCode: number | null;
  /** Signal number, or null. */
  readonly signal: number | null;
  readonly timedOut: boolean;
  /** From fork to reap, measured in the guest, microseconds. */
  readonly durationMicros: number;
}

export interface GuestExec {
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly stdin: Writable;
  /**
   * Settles after both streams have ended. Rejects with BerthError `guest_interrupted` when the channel broke after the
   * request may have reached the guest, `guest_unavailable` when it surely did not. Callers must never repeat the former.
   */
  readonly exit: Promise<GuestExecExit>;
  resize(cols: number, rows: number): void;
  /** Kills the whole process group. */
  kill(): void;
}

export interface GuestUploadOptions {
  /** Owner of what is written, whatever the archive says. */
  readonly uid: number;
  readonly gid: number;
  /** Directory that must contain `dest` after symlinks are resolved (by openat2 RESOLVE_BENEATH or the like). */
  readonly root: string;
}

export type GuestConnectTarget = { readonly unix: string } | { readonly port: number };

export interface GuestClient {
  /** Waits until guest-init answers on the channel; rejects with `guest_unavailable` after `timeoutMs`. */
  ready(timeoutMs: number, signal?: AbortSignal): Promise<GuestHello>;

  /**
   * Makes a guest that answers the machine it is to be. Rejects when something failed that a machine cannot do without:
   * clock, random numbers, host name, network, and with `renew` machine id and SSH host keys.
   */
  configure(identity: GuestIdentity): Promise<GuestIdentified>;

  /**
   * `ready` and `configure` at once, for a guest that was running when its state was saved: one round trip, begun before
   * the guest has answered anything. May be called while the machine is still paused: what was sent waits for it.
   * Rejects with `guest_unavailable` after `timeoutMs`.
   */
  become(identity: GuestIdentity, timeoutMs: number, signal?: AbortSignal): Promise<GuestIdentified>;

  /**
   * Sets the guest's clock to the host's, which went on while the guest stood still. Not a use of the guest
   * ({@link GuestUse}): it is part of waking it.
   */
  setClock(timeoutMs: number): Promise<void>;

  exec(request: GuestExecRequest): GuestExec;

  /**
   * Unpacks an uncompressed tar stream under `dest` (made if missing) as `uid:gid`, never through a symlink that leaves
   * `root`. The caller has validated entry names and types; the guest side refuses what escapes all the same.
   */
  uploadTar(dest: string, tar: Readable, options: GuestUploadOptions): Promise<void>;

  /** An uncompressed tar stream of a directory (entries `./…`) or one file, with the rights of `uid:gid`, beneath `root`. */
  downloadTar(path: string, options: GuestUploadOptions): Promise<Readable>;

  /** A byte stream to a unix socket or a loopback TCP port in the guest. */
  connect(target: GuestConnectTarget): Promise<Duplex>;

  /** Flushes file systems. */
  sync(): Promise<void>;
  /**
   * Blocks writes to the root file system (FIFREEZE) until `thaw`, the session's end, or `maxMs`. Throws `deadline_exceeded`
   * when the guest has not done so in `timeoutMs`, by default what every operation may take; so does `thaw`.
   */
  freeze(maxMs: number, timeoutMs?: number): Promise<void>;
  thaw(timeoutMs?: number): Promise<void>;

  /** Ends all processes (SIGTERM, then SIGKILL), syncs, unmounts, powers off or reboots. Resolves when accepted. */
  powerOff(): Promise<void>;
  reboot(): Promise<void>;

  /** Ends the session; requests in flight fail. The guest kills what they were running. */
  close(): void;
}

/** Told of every request to a guest, by whoever stops guests that nobody uses. */
export interface GuestUse {
  /** Called before a request. The request is sent once the promise, if there is one, has resolved, and fails when it fails. */
  begin(): Promise<void> | undefined;
  /** Called once for each `begin` that did not fail, when the request is over with all its streams. */
  end(): void;
}

/** Opens a byte stream to the guest's channel; called again for every new session. */
export type OpenChannel = () => Promise<Duplex>;
