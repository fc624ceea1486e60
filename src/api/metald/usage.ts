/** What VMs use, looked up at most once a second for each however many ask. */

import type { Log } from '../../common/log.ts';
import type { VmService } from '../../vm/api.ts';
import type { Vm } from '../../vm/model.ts';
import type { VmUsage } from '../../vm/usage.ts';

export interface Sample {
  readonly usage: VmUsage;
  /** Of one processor, 0 to 100 for each vCPU: mean since the sample before, or since the start. */
  readonly cpuPercent: number;
  readonly uptimeSeconds: number;
}

interface Entry {
  readonly at: number;
  /** When the VM was started that was looked at. */
  readonly startedAt: string | null;
  readonly sample: Promise<Sample | null>;
  /** What the entry before saw of the same process. */
  readonly before: { readonly at: number; readonly pid: number; readonly cpuMicros: number } | null;
}

/** How long a sample is given out again, ms. */
const freshMs = 1000;

export class UsageSamples {
  readonly #vms: VmService;
  readonly #clock: () => number;
  readonly #log: Log;
  readonly #entries = new Map<string, Entry>();

  constructor(vms: VmService, clock: () => number, log: Log) {
    this.#vms = vms;
    this.#clock = clock;
    this.#log = log;
  }

  /** Null for a VM without a process, and for one whose process does not tell. */
  of(vm: Vm): Promise<Sample | null> | null {
    if (vm.state !== 'running' && vm.state !== 'paused') {
      this.#entries.delete(vm.id);
      return null;
    }
    const now = this.#clock();
    const known = this.#entries.get(vm.id);
    const { startedAt } = vm;
    if (known && known.startedAt === startedAt && now - known.at < freshMs) return known.sample;
    const sample = this.#look(vm, known, now);
    this.#entries.set(vm.id, { at: now, startedAt, sample, before: known?.before ?? null });
    return sample;
  }

  /** Drops what is known of a VM that is gone. */
  forget(id: string): void {
    this.#entries.delete(id);
  }

  async #look(vm: Vm, known: Entry | undefined, now: number): Promise<Sample | null> {
    let usage: VmUsage | null;
    try {
      usage = await this.#vms.usage(vm.id);
    } catch (error) {
      this.#log.warn({ err: error, vm: vm.id }, 'what a VM uses could not be read');
      return null;
    }
    if (usage === null) return null;
    const uptimeMs = vm.startedAt === null ? 0 : Math.max(0, now - Date.parse(vm.startedAt));
    const before = known?.before?.pid === usage.pid ? known.before : null;
    const micros = usage.cpuMicros - (before?.cpuMicros ?? 0);
    const elapsedMs = before === null ? uptimeMs : now - before.at;
    // A VM counts as started once it is up, and its process has worked before that.
    const cpuPercent = elapsedMs <= 0 ? 0 : Math.min(100 * vm.cpus, Math.max(0, micros / 10 / elapsedMs));
    const entry = this.#entries.get(vm.id);
    if (entry) {
      this.#entries.set(vm.id, { ...entry, before: { at: now, pid: usage.pid, cpuMicros: usage.cpuMicros } });
    }
    return { usage, cpuPercent, uptimeSeconds: Math.floor(uptimeMs / 1000) };
  }
}
