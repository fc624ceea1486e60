import { rm } from 'node:fs/promises';
import { BerthError } from '../../common/errors.ts';
import { exists } from '../../common/files.ts';
import type { Log } from '../../common/log.ts';
import type { EngineVmSpec } from '../engine.ts';
import type { Cgroups } from './cgroup.ts';
import { expectState } from './incoming.ts';
import { Launchers, type LaunchOptions } from './launch.ts';
import { tail } from './log-writers.ts';
import type { Monitors } from './monitors.ts';
import { qemuArgs } from './qemu-args.ts';
import { type KvmAccess, kvmAccess } from './qemu-probe.ts';
import type { ProcessTable } from './qemu-process.ts';
import { vmFiles, vmSockets } from './vm-files.ts';

/** Milliseconds QEMU has to open its devices and greet, on a host that is busy booting others. */
const startMs = 20_000;

const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;

export interface StarterOptions extends Pick<LaunchOptions, 'qemu' | 'logBytes'> {
  /** MiB for translated code of each VM when there is no KVM. */
  readonly translationMiB: number;
  readonly table: ProcessTable;
  readonly monitors: Monitors;
  readonly log: Log;
  /** Rate of the host's time stamp counter, null when unknown. */
  readonly tscKhz: () => Promise<number | null>;
  readonly cgroups: () => Promise<Cgroups>;
  /** Ends what is left of a VM's process, and takes away what it had. */
  readonly destroy: (id: string, dir: string) => Promise<void>;
}

/** Brings VMs' processes up: as far as their first greeting, or not at all. */
export class Starter {
  readonly #options: StarterOptions;
  readonly #launchers = new Launchers();

  constructor(options: StarterOptions) {
    this.#options = options;
  }

  close(): void {
    this.#launchers.close();
  }

  /** @throws BerthError `boot_failed`, `conflict`, `unsupported` */
  async start(
    spec: EngineVmSpec,
    acceleration: 'kvm' | 'tcg',
    { memory, endsWithDaemon }: Pick<LaunchOptions, 'memory' | 'endsWithDaemon'>,
  ): Promise<void> {
    const { cgroups, destroy, log, logBytes, monitors, qemu, translationMiB, tscKhz } = this.#options;
    checkId(spec.id);
    await this.#claimDirectory(spec);
    const args = qemuArgs(spec, {
      acceleration,
      tscKhz: await tscKhz(),
      translationMiB,
      incoming: memory !== null,
    });
    const access: KvmAccess = acceleration === 'kvm' ? await kvmAccess(spec.uid) : { usable: true, group: null };
    if (!access.usable) throw new BerthError('unsupported', { feature: 'KVM for this VM' }, access.reason);
    const { cpuPercent, memoryOverheadMiB } = spec.limits;
    const codeMiB = acceleration === 'tcg' ? translationMiB : 0;
    const memoryMiB = memoryOverheadMiB === null ? null : spec.memoryMiB + codeMiB + memoryOverheadMiB;
    try {
      const cgroupFiles = await (await cgroups()).create(spec.id, {
        cpuPercent,
        memoryBytes: memoryMiB === null ? null : memoryMiB * 1024 * 1024,
      });
      const kvmGroup = access.group;
      await this.#launch({ spec, qemu, qemuArgs: args, cgroupFiles, logBytes, memory, endsWithDaemon, kvmGroup });
      if (memory !== null) await expectState(await monitors.ready(spec.dir));
    } catch (error) {
      await destroy(spec.id, spec.dir);
      // The log writer has ended: the log is complete.
      log.error({ err: error, vm: spec.id, engineLog: await tail(vmFiles(spec.dir).engineLog) }, 'QEMU did not start');
      throw new BerthError('boot_failed', { reason: 'its process did not start' }, error);
    }
  }

  /** Makes sure that no other process is the VM's, and makes room for the sockets of the one to come. */
  async #claimDirectory({ id, dir }: EngineVmSpec): Promise<void> {
    const sockets = vmSockets(dir);
    // A process binds its sockets before it is a VM's: where there is none there is no need to look at all processes.
    if (!(await exists(vmFiles(dir).qmpSocket))) return;
    if ((await this.#options.table.find(id, dir)) !== null) {
      throw new BerthError('conflict', { reason: `VM ${id} already has a process` });
    }
    for (const socket of sockets) await rm(socket, { force: true });
  }

  /** Starts the process and waits until it answers; an early end is noticed at once. */
  async #launch(options: LaunchOptions): Promise<void> {
    const { log, monitors, table } = this.#options;
    const { spec } = options;
    const child = await this.#launchers.launch(options);
    const ended = new AbortController();
    child.once('exit', (code, signal) => {
      log.info({ vm: spec.id, code, signal }, 'QEMU ended');
      ended.abort(new Error(`QEMU ended (${signal ?? code})`));
    });
    await monitors.readySoon(spec.dir, startMs, ended.signal).catch((error: unknown) => {
      throw ended.signal.aborted ? ended.signal.reason : error;
    });
    if (child.pid !== undefined) await table.learn(spec.id, spec.dir, child.pid);
  }
}

/** Throws `invalid_argument` unless the id may be a directory's name. */
export function checkId(id: string): void {
  // The id becomes a directory's name among the cgroups.
  if (!idPattern.test(id)) throw new BerthError('invalid_argument', { reason: 'Invalid VM id' });
}
