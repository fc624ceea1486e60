import type { Traffic } from '../net/network.ts';
import type { VmDependencies } from './context.ts';
import type { Idleness } from './idleness.ts';
import type { Vm } from './model.ts';
import type { Records } from './records.ts';
import { tapsOf } from './usage.ts';

/** Bounds of the time between two looks at the VMs, which is otherwise a quarter of the shortest time to be idle. */
const shortestPeriodMs = 1000;
const longestPeriodMs = 15_000;

/** A live VM as far as its idleness is concerned. */
export interface WatchedVm {
  readonly id: string;
  readonly idleness: Idleness;
  /** Requests to its guest that are not over. */
  readonly open: number;
  /** Parked, or about to be. */
  readonly held: boolean;
}

export interface IdleWatchOptions<T extends WatchedVm> {
  readonly deps: Pick<VmDependencies, 'engine' | 'network' | 'layout' | 'settings' | 'log'>;
  readonly records: Records;
  /** The live VMs at this moment. */
  readonly vms: () => Iterable<T>;
  /** Told of each VM that is idle, at every look. */
  readonly onIdle: (vm: T) => void;
}

/**
 * Looks at the VMs that are to be parked when idle, now and then: one timer for all, and none while no VM is awake. VMs are
 * parked up to two periods later than they might be.
 */
export class IdleWatch<T extends WatchedVm> {
  readonly #options: IdleWatchOptions<T>;
  #timer: { readonly handle: NodeJS.Timeout; readonly dueAt: number } | null = null;
  #closed = false;

  constructor(options: IdleWatchOptions<T>) {
    this.#options = options;
  }

  /** Sees to it that the next look is early enough for this VM. */
  expect(vm: T): void {
    if (this.#closed) return;
    // One that is not to be parked now may be later: what is kept ready for somebody becomes somebody's.
    const limitMs = this.#limitMs(vm) ?? Number.POSITIVE_INFINITY;
    const delayMs = Math.min(Math.max(limitMs / 4, shortestPeriodMs), longestPeriodMs);
    const dueAt = performance.now() + delayMs;
    if (this.#timer !== null) {
      if (this.#timer.dueAt <= dueAt) return;
      clearTimeout(this.#timer.handle);
    }
    this.#timer = { handle: setTimeout(() => this.#onTimer(), delayMs).unref(), dueAt };
  }

  isIdle(vm: T): boolean {
    const limitMs = this.#limitMs(vm);
    return (
      limitMs !== null &&
      !vm.held &&
      vm.open === 0 &&
      this.#options.records.find(vm.id)?.state === 'running' &&
      vm.idleness.since(performance.now()) >= limitMs
    );
  }

  close(): void {
    this.#closed = true;
    if (this.#timer) clearTimeout(this.#timer.handle);
  }

  /** Milliseconds the VM has to be idle for, or null when it is not to be parked. */
  #limitMs(vm: T): number | null {
    const { deps, records } = this.#options;
    const record = records.find(vm.id);
    if (record === undefined || !canBeParked(record)) return null;
    const seconds = record.parkAfterSeconds ?? deps.settings.parkAfterSeconds;
    return seconds === 0 ? null : seconds * 1000;
  }

  #onTimer(): void {
    this.#timer = null;
    this.#look().catch((error) => this.#options.deps.log.error({ err: error }, 'idle VMs could not be looked for'));
  }

  async #look(): Promise<void> {
    const { deps, records, vms, onIdle } = this.#options;
    for (const vm of vms()) if (!vm.held) this.expect(vm);
    const awake = [...vms()].filter((vm) => !vm.held && this.#limitMs(vm) !== null);
    if (awake.length === 0) return;
    const traffic = await deps.network.traffic(awake.flatMap(({ id }) => tapsOf(records.get(id))));
    // One after another: a look may take its time, and the daemon has better things to do.
    for (const vm of awake) {
      if (this.#closed) return;
      await this.#sample(vm, traffic);
      if (this.isIdle(vm)) onIdle(vm);
    }
  }

  async #sample(vm: T, traffic: ReadonlyMap<string, Traffic>): Promise<void> {
    const { engine, layout, log } = this.#options.deps;
    const record = this.#options.records.find(vm.id);
    // What a VM uses on the way up or down, or does not use while its user has paused it, says nothing.
    if (record?.state !== 'running') return vm.idleness.forget(performance.now());
    try {
      const cpuMicros = await engine.cpuMicros(vm.id, layout.run(vm.id));
      if (cpuMicros === null) return;
      vm.idleness.observe({ at: performance.now(), cpuMicros, packets: packetsOf(record, traffic) });
    } catch (error) {
      log.warn({ err: error, vm: vm.id }, 'what a VM uses could not be read');
      vm.idleness.forget(performance.now());
    }
  }
}

/** Not one that nobody may see, nor one whose guest could not be told the time when it goes on. */
export function canBeParked(vm: Vm): boolean {
  return vm.guestChannel === 'required' && !vm.hidden;
}

function packetsOf(vm: Vm, traffic: ReadonlyMap<string, Traffic>): number {
  const counts = tapsOf(vm).map((tap) => traffic.get(tap));
  return counts.reduce((sum, count) => sum + (count ? count.rxPackets + count.txPackets : 0), 0);
}
