import { setTimeout as delay } from 'node:timers/promises';
import type { Serial } from '../common/concurrency.ts';
import { chainBytes, layerNames, layersToKeep, readChain } from './disk-chain.ts';
import { checkSpace } from './disk-space.ts';
import type { Vm } from './model.ts';
import { journalEntry, type Operations } from './operations.ts';
import { mergePlan } from './plans.ts';

const bytesPerMiB = 1024 * 1024;

/** What a merge in the background may copy in a second: others use the disk, too. */
const backgroundBytesPerSecond = 128 * bytesPerMiB;
/** Longest time, ms, that a caller waits for a merge. */
const nowMs = 60_000;

/** What became of an attempt, whether it merged anything or not. */
type Outcome = 'over' | 'cut short';

/**
 * Keeps the chains of layers short that disks of running VMs are made of: one merge at a time, in the VM's turn, which it
 * leaves as soon as there is anything else to be done with the VM. Then it is tried again; what was copied needs no copying.
 */
export class Merging {
  readonly #operations: Operations;
  readonly #serial: Serial<string>;
  /** VMs whose chain may be too long. */
  readonly #wanted = new Set<string>();
  readonly #closing = new AbortController();
  #isWorking = false;

  constructor(operations: Operations, serial: Serial<string>) {
    this.#operations = operations;
    this.#serial = serial;
  }

  /** A VM has a process, or its disk another layer: whether there are too many is found out later, when all is quiet. */
  want(id: string): void {
    if (this.#closing.signal.aborted) return;
    this.#wanted.add(id);
    if (!this.#isWorking) void this.#work();
  }

  /**
   * Merges the layers of a running VM, whose other operations the caller holds back, as fast as it goes. When it takes too
   * long or fails the chain is as long as it was.
   */
  async now(vm: Vm): Promise<void> {
    const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(nowMs)]);
    await this.#attempt(vm, signal, null);
  }

  /** Breaks off what is under way; nothing more is begun. */
  close(): void {
    this.#closing.abort();
  }

  async #work(): Promise<void> {
    const { signal } = this.#closing;
    const { log, settings } = this.#operations.deps;
    this.#isWorking = true;
    while (this.#wanted.size > 0 && !signal.aborted) {
      await quiet(settings.layers.quietMs, signal);
      for (const id of [...this.#wanted]) {
        if (signal.aborted) break;
        this.#wanted.delete(id);
        try {
          if ((await this.#mergeInTurn(id)) === 'cut short') this.#wanted.add(id);
        } catch (error) {
          log.error({ err: error, vm: id }, 'the disk layers of a VM could not be looked at');
        }
      }
    }
    this.#isWorking = false;
  }

  /**
   * Merges a VM's layers when its turn comes, if there are too many. Cut short when something else came first: it is to be
   * tried again.
   */
  async #mergeInTurn(id: string): Promise<Outcome> {
    if (!(await this.#isLong(id))) return 'over';
    return this.#serial.runYielding(id, async (wanted) => {
      const vm = this.#operations.records.find(id);
      // One that stands still is looked at again after its next start or snapshot. One that the engine holds is paused.
      if (vm?.state !== 'running' || vm.parked) return 'over';
      if (wanted.aborted) return 'cut short';
      const signal = AbortSignal.any([wanted, this.#closing.signal]);
      return this.#attempt(vm, signal, backgroundBytesPerSecond);
    });
  }

  async #isLong(id: string): Promise<boolean> {
    const { layout, settings } = this.#operations.deps;
    try {
      return (await layerNames(layout.dir(id))).length > settings.layers.merged;
    } catch (error) {
      // Removed meanwhile.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
  }

  async #attempt(vm: Vm, signal: AbortSignal, bytesPerSecond: number | null): Promise<Outcome> {
    const { log } = this.#operations.deps;
    try {
      await this.#merge(vm, signal, bytesPerSecond);
    } catch (error) {
      if (signal.aborted) {
        log.info({ vm: vm.id }, 'a merge of disk layers was broken off');
        return 'cut short';
      }
      log.warn({ err: error, vm: vm.id }, 'disk layers could not be merged');
    }
    return 'over';
  }

  /** Only in the VM's turn. */
  async #merge(vm: Vm, signal: AbortSignal, bytesPerSecond: number | null): Promise<void> {
    const { layout, settings, store } = this.#operations.deps;
    const chain = await readChain(layout, vm.id);
    // Lowest first, without the image and the newest.
    const below = (await chainBytes(layout.dir(vm.id), chain.slice(1, -1))).toReversed();
    const keep = layersToKeep(below, Math.floor(settings.layers.merged / 2));
    const copied = below.slice(keep).reduce((sum, size) => sum + size, 0);
    await checkSpace(layout.home, settings.diskReserveMiB + copied / bytesPerMiB);
    const base = chain[chain.length - 1 - keep]!;
    const operation = journalEntry(vm.id, 'merge', { base, bytesPerSecond });
    // Without a note of a change: to everybody the VM is what it was.
    await store.begin(vm, operation);
    try {
      await this.#operations.run(mergePlan, vm, operation, signal);
    } finally {
      await store.finish(vm);
    }
  }
}

/** Resolves after a time, or when there is no more use in waiting. */
async function quiet(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal, ref: false });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
