import { mkdir } from 'node:fs/promises';
import { runCommand } from '../../common/command.ts';
import { hostBootId } from '../../common/host-boot.ts';
import type { Log } from '../../common/log.ts';
import { measureTscKhz } from './host-tsc.ts';
import { type Acceleration, bootUnderKvm, kernelKey, kvmAccess, ProbeCache, type ProbeRunner } from './qemu-probe.ts';

export interface QemuHostFactsOptions {
  readonly accel: 'auto' | 'kvm' | 'tcg';
  readonly qemu: string;
  readonly stateDir: string;
  readonly probeUid: number | null;
  readonly kernelForProbe: () => Promise<string | null>;
  readonly log: Log;
}

/** What this host offers QEMU, found out when first asked for; all who ask meanwhile share one answer. */
export class QemuHostFacts {
  readonly #options: QemuHostFactsOptions;
  readonly #runner: ProbeRunner;
  #acceleration: Promise<Acceleration> | null = null;
  #version: Promise<string> | null = null;
  #tscKhz: Promise<number | null> | null = null;

  /** @param runner boots VMs under KVM, for the probe */
  constructor(options: QemuHostFactsOptions, runner: ProbeRunner) {
    this.#options = options;
    this.#runner = runner;
  }

  /** What runs guests' code. An answer given for want of a kernel is not kept. */
  acceleration(): Promise<Acceleration> {
    this.#acceleration ??= this.#probe().catch((error: unknown) => {
      this.#acceleration = null;
      throw error;
    });
    return this.#acceleration;
  }

  version(): Promise<string> {
    this.#version ??= runCommand(this.#options.qemu, ['--version'], { maxOutputBytes: 65_536 }).then(
      ({ stdout }) => /version (.+)/.exec(stdout)?.[1] ?? 'unknown',
    );
    return this.#version;
  }

  /** Rate of the time stamp counter, null when it cannot be measured. */
  tscKhz(): Promise<number | null> {
    this.#tscKhz ??= this.#stateDir()
      .then(measureTscKhz)
      .catch((error: unknown) => {
        this.#options.log.warn({ err: error }, 'the time stamp counter could not be measured: guests may lose time');
        return null;
      });
    return this.#tscKhz;
  }

  async #stateDir(): Promise<string> {
    await mkdir(this.#options.stateDir, { recursive: true, mode: 0o711 });
    return this.#options.stateDir;
  }

  async #probe(): Promise<Acceleration> {
    const { accel, log, probeUid: uid } = this.#options;
    if (accel !== 'auto') return { kind: accel, reason: 'configured' };
    const access = await kvmAccess(uid);
    if (!access.usable) return { kind: 'tcg', reason: access.reason };
    const kernel = await this.#options.kernelForProbe();
    if (kernel === null) {
      this.#acceleration = null;
      return { kind: 'tcg', reason: 'there is no kernel yet to try KVM with' };
    }
    const stateDir = await this.#stateDir();
    const cache = new ProbeCache(stateDir, log);
    const key = {
      kernel: await kernelKey(kernel),
      qemuVersion: await this.version(),
      hostBoot: await hostBootId(),
    };
    const known = await cache.get(key);
    if (known !== null) return known;
    log.info('trying whether a kernel boots under KVM');
    const answer = await bootUnderKvm({ runner: this.#runner, stateDir, kernel, uid, log });
    log.info({ acceleration: answer.kind, reason: answer.reason }, 'acceleration probed');
    await cache.put(key, answer);
    return answer;
  }
}
