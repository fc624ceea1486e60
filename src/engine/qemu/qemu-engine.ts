import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import type { Duplex } from 'node:stream';
import { BerthError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type {
  Engine,
  EngineCapabilities,
  EngineCapture,
  EngineCaptured,
  EngineExit,
  EngineMemory,
  EngineMerge,
  EngineObservation,
  EngineShape,
  EngineState,
  EngineUsage,
  EngineVmSpec,
} from '../engine.ts';
import { capture } from './capture.ts';
import { Cgroups } from './cgroup.ts';
import { growDisk } from './disk-layers.ts';
import { fingerprint } from './fingerprint.ts';
import { loadState } from './incoming.ts';
import { logWritersEnded } from './log-writers.ts';
import { mergeLayers } from './merge-layers.ts';
import { isNotListening, Monitors } from './monitors.ts';
import { openChannel } from './open-channel.ts';
import { QemuHostFacts } from './qemu-host.ts';
import { ProcessTable, type VmProcess } from './qemu-process.ts';
import { isObject, QmpClosedError } from './qemu-qmp.ts';
import { checkId, Starter } from './starter.ts';
import { diskUsage, processCpuMicros, processUsage } from './usage.ts';
import { vmFiles } from './vm-files.ts';
import { VmWatch } from './vm-watch.ts';

export interface QemuEngineOptions {
  /** `auto` boots a kernel under KVM to find out; the others are taken at their word. */
  readonly accel: 'auto' | 'kvm' | 'tcg';
  /** Directory of the engine's own, traversable by VM processes; made when missing. */
  readonly stateDir: string;
  readonly log: Log;
  /** The kernel to probe the acceleration with, readable by `probeUid`; null while there is none. */
  readonly kernelForProbe: () => Promise<string | null>;
  /** uid that VM processes run under, for the probe; null or omitted when the daemon is not root. */
  readonly probeUid?: number | null;
  /** QEMU's program; default `qemu-system-x86_64`. */
  readonly qemu?: string;
  /** Distinguishes this daemon's cgroups from those of others on the host; default: derived from `stateDir`. */
  readonly instance?: string;
  /** MiB for translated code of each VM when there is no KVM; part of what a VM's process needs beside guest memory. */
  readonly translationMiB?: number;
  /** Bytes after which a VM's log is rotated; it takes at most twice as much on disk. */
  readonly logBytes?: { readonly console: number; readonly engine: number };
}

/** Milliseconds a killed process has to disappear. */
const killMs = 10_000;
/** Milliseconds a log writer has to copy the rest. */
const logWriterMs = 2000;

/** Runs VMs with QEMU: one process for each, with no tie to this one but its sockets. */
export class QemuEngine implements Engine {
  readonly name = 'qemu';
  readonly #options: Required<QemuEngineOptions>;
  readonly #log: Log;
  readonly #table = new ProcessTable();
  readonly #monitors = new Monitors();
  readonly #starter: Starter;
  readonly #watches = new Map<string, VmWatch>();
  readonly #host: QemuHostFacts;
  #cgroups: Promise<Cgroups> | null = null;

  constructor(options: QemuEngineOptions) {
    this.#options = {
      qemu: 'qemu-system-x86_64',
      instance: createHash('sha256').update(options.stateDir).digest('hex').slice(0, 12),
      translationMiB: 128,
      probeUid: null,
      logBytes: { console: 1024 * 1024, engine: 256 * 1024 },
      ...options,
    };
    this.#log = options.log;
    this.#starter = new Starter({
      ...this.#options,
      table: this.#table,
      monitors: this.#monitors,
      tscKhz: () => this.#host.tscKhz(),
      cgroups: () => this.#openCgroups(),
      destroy: (id, dir) => this.destroy(id, dir),
    });
    this.#host = new QemuHostFacts(this.#options, {
      start: (spec) => this.#starter.start(spec, 'kvm', { memory: null, endsWithDaemon: true }),
      waitForExit: (id, dir, timeoutMs) => this.waitForExit(id, dir, timeoutMs),
      destroy: (id, dir) => this.destroy(id, dir),
      consoleLog: (dir) => this.consoleLog(dir),
    });
  }

  async capabilities(): Promise<EngineCapabilities> {
    const [{ kind, reason }, version, cgroups] = await Promise.all([
      this.#host.acceleration(),
      this.#host.version(),
      this.#openCgroups(),
    ]);
    return {
      name: this.name,
      acceleration: kind,
      reason,
      version,
      cpuLimits: cgroups.cpu,
      memoryLimits: cgroups.memory,
    };
  }

  async start(spec: EngineVmSpec): Promise<void> {
    await this.#starter.start(spec, (await this.#host.acceleration()).kind, { memory: null, endsWithDaemon: false });
  }

  async prepare(spec: EngineVmSpec, memory: EngineMemory): Promise<void> {
    await this.#starter.start(spec, (await this.#host.acceleration()).kind, { memory, endsWithDaemon: false });
  }

  async restore(id: string, dir: string): Promise<void> {
    await this.#require(id, dir);
    await loadState(await this.#monitors.ready(dir));
  }

  async capture(id: string, dir: string, request: EngineCapture): Promise<EngineCaptured> {
    const { pid } = await this.#require(id, dir);
    return await capture(await this.#monitors.ready(dir), pid, request);
  }

  async fingerprint(shape: EngineShape): Promise<string> {
    const [{ kind }, version] = await Promise.all([this.#host.acceleration(), this.#host.version()]);
    return fingerprint(shape, { acceleration: kind, version, translationMiB: this.#options.translationMiB });
  }

  async counterKhz(): Promise<number | null> {
    // KVM looks after that by itself.
    return (await this.#host.acceleration()).kind === 'tcg' ? await this.#host.tscKhz() : null;
  }

  async mergeLayers(id: string, dir: string, merge: EngineMerge): Promise<void> {
    await this.#require(id, dir);
    await mergeLayers(await this.#monitors.ready(dir), merge);
  }

  async growDisk(id: string, dir: string, disk: string, bytes: number): Promise<void> {
    await this.#require(id, dir);
    await growDisk(await this.#monitors.ready(dir), disk, bytes);
  }

  async observe(id: string, dir: string): Promise<EngineObservation> {
    const process = await this.#table.find(id, dir);
    if (process === null) return { state: 'absent', pid: null };
    try {
      const status = await this.#execute(process, 'query-status');
      return { state: stateOf(isObject(status) ? status.status : null), pid: process.pid };
    } catch (error) {
      if (await this.#table.isAlive(process)) throw error;
      return { state: 'absent', pid: null };
    }
  }

  async watch(id: string, dir: string, onExit: (exit: EngineExit) => void, onChange = () => {}): Promise<void> {
    const process = await this.#require(id, dir);
    this.#watches.get(dir)?.stop();
    const watch = new VmWatch(process, this.#table, this.#monitors, this.#log);
    this.#watches.set(dir, watch);
    watch.start((exit) => {
      if (this.#watches.get(dir) === watch) this.#watches.delete(dir);
      onExit(exit);
    }, onChange);
  }

  async pause(id: string, dir: string): Promise<void> {
    await this.#execute(await this.#require(id, dir), 'stop');
  }

  async resume(id: string, dir: string): Promise<void> {
    await this.#execute(await this.#require(id, dir), 'cont');
  }

  async powerButton(id: string, dir: string): Promise<void> {
    await this.#execute(await this.#require(id, dir), 'system_powerdown');
  }

  async waitForExit(id: string, dir: string, timeoutMs: number): Promise<boolean> {
    const process = await this.#table.find(id, dir);
    return process === null || (await this.#table.waitForEnd(process, timeoutMs));
  }

  async destroy(id: string, dir: string): Promise<void> {
    checkId(id);
    this.#watches.get(dir)?.expectEnd();
    const process = await this.#table.find(id, dir);
    if (process !== null && !(await this.#table.kill(process, killMs))) {
      throw new BerthError('deadline_exceeded', { operation: 'Ending the VM' });
    }
    this.#monitors.drop(dir);
    await logWritersEnded(vmFiles(dir).engineLog, logWriterMs);
    for (const socket of [vmFiles(dir).qmpSocket, vmFiles(dir).guestSocket]) await rm(socket, { force: true });
    await (await this.#openCgroups()).remove(id);
  }

  async openChannel(id: string, dir: string): Promise<Duplex> {
    await this.#require(id, dir);
    return await openChannel(vmFiles(dir).guestSocket);
  }

  consoleLog(dir: string): string {
    return vmFiles(dir).consoleLog;
  }

  engineLog(dir: string): string {
    return vmFiles(dir).engineLog;
  }

  async cpuMicros(id: string, dir: string): Promise<number | null> {
    const process = await this.#table.find(id, dir);
    return process === null ? null : await processCpuMicros(process.pid);
  }

  async usage(id: string, dir: string): Promise<EngineUsage | null> {
    const process = await this.#table.find(id, dir);
    if (process === null) return null;
    const [usage, blockStats] = await Promise.all([
      processUsage(process.pid),
      this.#execute(process, 'query-blockstats').catch(async (error: unknown) => {
        if (await this.#table.isAlive(process)) throw error;
        return [];
      }),
    ]);
    return usage === null ? null : { ...usage, disks: diskUsage(blockStats) };
  }

  controlSocket(dir: string): string {
    return vmFiles(dir).qmpSocket;
  }

  async listLive(vmsRoot: string): Promise<ReadonlyMap<string, number>> {
    const below = vmsRoot.endsWith('/') ? vmsRoot : `${vmsRoot}/`;
    const live = await this.#table.list();
    return new Map(live.filter(({ dir }) => dir.startsWith(below)).map(({ id, pid }) => [id, pid]));
  }

  async close(): Promise<void> {
    for (const watch of this.#watches.values()) watch.stop();
    this.#watches.clear();
    this.#monitors.close();
    this.#starter.close();
    await (await this.#cgroups)?.close();
  }

  async #require(id: string, dir: string): Promise<VmProcess> {
    const process = await this.#table.find(id, dir);
    if (process === null) throw new BerthError('wrong_state', { expected: 'running', actual: 'stopped' });
    return process;
  }

  async #execute(process: VmProcess, command: string): Promise<unknown> {
    try {
      return await (await this.#monitors.ready(process.dir)).execute(command);
    } catch (error) {
      if (error instanceof QmpClosedError || isNotListening(error)) {
        throw new BerthError('conflict', { reason: 'The VM ended meanwhile' }, error);
      }
      throw error;
    }
  }

  #openCgroups(): Promise<Cgroups> {
    this.#cgroups ??= Cgroups.open(this.#options.instance, this.#log);
    return this.#cgroups;
  }
}

/** QEMU's run states as far as they matter here. Disks are left at `werror=enospc`, so `io-error` is a full host. */
function stateOf(status: unknown): EngineState {
  if (status === 'running') return 'running';
  return status === 'io-error' ? 'stalled' : 'paused';
}
