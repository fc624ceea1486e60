import { Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import { failpoint } from '../common/failpoint.ts';
import type { EngineState } from '../engine/engine.ts';
import type { GuestClient, GuestUse } from '../guest/guest.ts';
import { tellTime } from './clock.ts';
import type { VmDependencies } from './context.ts';
import { canBeParked, IdleWatch } from './idle-watch.ts';
import { Idleness } from './idleness.ts';
import type { Vm } from './model.ts';
import type { Records } from './records.ts';
import { tapsOf } from './usage.ts';

export interface ParkingOptions {
  readonly deps: Pick<VmDependencies, 'engine' | 'network' | 'store' | 'layout' | 'settings' | 'log'>;
  readonly records: Records;
  readonly guestOf: (id: string) => GuestClient | undefined;
  /** Runs a task when no operation on the VM is under way, and none meanwhile. */
  readonly exclusive: (id: string, task: () => Promise<void>) => Promise<void>;
}

/** What is known of one live process of a VM. */
interface Followed {
  readonly id: string;
  readonly idleness: Idleness;
  /** Requests to the guest that are not over. */
  open: number;
  /** Requests wait, and wake the VM: it is parked, or about to be. */
  held: boolean;
  /** Waits for its turn to be parked. */
  leaving: boolean;
  unwatch: (() => void) | null;
}

/**
 * Stops VMs that are idle, and lets them go on when a request to the guest or a packet for it comes. To everybody else a
 * parked VM is running.
 *
 * The store says so before the process stands still, and until it is known to go on: whatever ends the daemon in between, no
 * VM stands still that nobody would wake.
 */
export class Parking {
  readonly #deps: ParkingOptions['deps'];
  readonly #records: Records;
  readonly #guestOf: ParkingOptions['guestOf'];
  readonly #exclusive: ParkingOptions['exclusive'];
  readonly #followed = new Map<string, Followed>();
  /** Parking and waking of one VM, one after another. */
  readonly #turns = new Serial<string>();
  readonly #idle: IdleWatch<Followed>;

  constructor(options: ParkingOptions) {
    this.#deps = options.deps;
    this.#records = options.records;
    this.#guestOf = options.guestOf;
    this.#exclusive = options.exclusive;
    this.#idle = new IdleWatch({
      deps: options.deps,
      records: options.records,
      vms: () => this.#followed.values(),
      onIdle: (vm) => this.#parkWhenFree(vm),
    });
  }

  /** Begins to look after a VM's process. What is returned is to be told of every request to its guest. */
  follow(id: string): GuestUse {
    this.unfollow(id);
    const idleness = new Idleness(performance.now());
    const vm: Followed = { id, idleness, open: 0, held: false, leaving: false, unwatch: null };
    this.#followed.set(id, vm);
    this.#idle.expect(vm);
    return { begin: () => this.#begin(vm), end: () => this.#end(vm) };
  }

  /** The process is gone, or about to go. */
  unfollow(id: string): void {
    const vm = this.#followed.get(id);
    if (!vm) return;
    this.#followed.delete(id);
    vm.unwatch?.();
  }

  /**
   * Takes up what an earlier daemon left, once the VM is followed. One that is noted as parked but runs was just being
   * parked or woken, and may have the wrong time. One that the engine holds is not parked.
   */
  async restore(record: Vm, state: EngineState): Promise<void> {
    const vm = this.#followed.get(record.id);
    const isLeftToMe = record.parked && (state === 'paused' || state === 'running');
    if (!vm || !isLeftToMe) return;
    vm.held = true;
    await this.#turns.run(vm.id, async () => {
      if (state === 'running' || !(await this.#watch(vm))) await this.#goOn(vm, 'restart');
    });
  }

  /** Parks a running VM now. Throws `wrong_state`, or `conflict` while its guest is in use. */
  park(id: string): Promise<void> {
    return this.#exclusive(id, async () => {
      const vm = this.#followed.get(id);
      const record = this.#records.get(id);
      const { state } = record;
      if (!vm || state !== 'running')
        throw new BerthError('wrong_state', { expected: 'RUNNING to park', actual: state.toUpperCase(), state });
      if (!canBeParked(record)) throw new BerthError('unsupported', { feature: 'Parking a VM without guest-init' });
      if (vm.held) return;
      if (vm.open > 0) throw new BerthError('conflict', { reason: 'The VM is in use' });
      await this.#turns.run(id, () => this.#standStill(vm));
    });
  }

  /** Lets a VM go on if it is parked. Resolves when it runs and has been told the time. */
  wake(id: string): Promise<void> {
    return this.#turns.run(id, async () => {
      const vm = this.#followed.get(id);
      if (vm?.held) await this.#goOn(vm, 'request');
    });
  }

  /** Parks nothing any more, and waits for what is under way; parked VMs stay parked. */
  async close(): Promise<void> {
    this.#idle.close();
    await this.#turns.idle();
  }

  #begin(vm: Followed): Promise<void> | undefined {
    vm.open++;
    vm.idleness.use(performance.now());
    if (!vm.held) return undefined;
    return this.wake(vm.id).catch((error: unknown) => {
      vm.open--;
      throw error;
    });
  }

  #end(vm: Followed): void {
    vm.open--;
    vm.idleness.use(performance.now());
    this.#idle.expect(vm);
  }

  /** Does not wait for the VM's turn: an operation on one must not keep the others awake. */
  #parkWhenFree(vm: Followed): void {
    if (vm.leaving) return;
    vm.leaving = true;
    const park = async () => {
      if (this.#followed.get(vm.id) === vm && this.#idle.isIdle(vm))
        await this.#turns.run(vm.id, () => this.#standStill(vm));
    };
    this.#exclusive(vm.id, park)
      .catch((error) => this.#deps.log.debug({ err: error, vm: vm.id }, 'an idle VM was not parked'))
      .finally(() => {
        vm.leaving = false;
      });
  }

  async #standStill(vm: Followed): Promise<void> {
    const { engine, layout, log, store } = this.#deps;
    // From here on requests wait for their turn, which comes after this one, and wake the VM again.
    vm.held = true;
    // A packet between this and the stop is taken for one that the VM has to be woken for.
    if (!(await this.#watch(vm))) {
      vm.held = false;
      throw new BerthError('network_failed');
    }
    try {
      await store.setParked(vm.id, true);
      failpoint('park.note.after');
      await engine.pause(vm.id, layout.run(vm.id));
      failpoint('park.stop.after');
      this.#records.setParked(vm.id, true);
    } catch (error) {
      log.warn({ err: error, vm: vm.id }, 'a VM could not be parked');
      // It may stand still all the same, or do so later.
      this.#records.setParked(vm.id, true);
      await this.#goOn(vm, 'failure');
      throw error;
    }
    log.info({ vm: vm.id }, 'parked');
  }

  /** Until the process is known to run, the VM stays noted as parked, and requests go on trying to wake it. */
  async #goOn(vm: Followed, by: 'request' | 'packet' | 'restart' | 'failure'): Promise<void> {
    const { engine, layout, log, store } = this.#deps;
    const begun = performance.now();
    await engine.resume(vm.id, layout.run(vm.id));
    failpoint('wake.go.after');
    // Only guests that are spoken with are parked.
    await tellTime({ id: vm.id, guestChannel: 'required' }, this.#guestOf(vm.id), log);
    try {
      await store.setParked(vm.id, false);
    } catch (error) {
      // As on a full disk. The next daemon finds a process that runs, and does not believe the note.
      log.error({ err: error, vm: vm.id }, 'it could not be written that a VM is no longer parked');
    }
    failpoint('wake.note.after');
    this.#records.setParked(vm.id, false);
    vm.held = false;
    vm.unwatch?.();
    vm.unwatch = null;
    vm.idleness.forget(performance.now());
    this.#idle.expect(vm);
    log.info({ vm: vm.id, by, micros: Math.round((performance.now() - begun) * 1000) }, 'woken');
  }

  /** False when nobody would see a packet for the VM: it must not be parked. */
  async #watch(vm: Followed): Promise<boolean> {
    const { log, network } = this.#deps;
    const wake = async () => {
      if (vm.held && this.#followed.get(vm.id) === vm) await this.#goOn(vm, 'packet');
    };
    const onPacket = () => {
      this.#turns
        .run(vm.id, wake)
        .catch((error) => log.error({ err: error, vm: vm.id }, 'a VM could not be woken for a packet'));
    };
    try {
      const unwatch = await network.onNextPacket(tapsOf(this.#records.get(vm.id)), onPacket);
      vm.unwatch = unwatch;
      // It ended meanwhile.
      if (this.#followed.get(vm.id) !== vm) unwatch();
      return true;
    } catch (error) {
      log.warn({ err: error, vm: vm.id }, 'packets for a VM cannot be watched for');
      return false;
    }
  }
}
