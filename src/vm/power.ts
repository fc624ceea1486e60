import { rm } from 'node:fs/promises';
import type { Pending, Serial } from '../common/concurrency.ts';
import type { EngineExit } from '../engine/engine.ts';
import type { Operation } from '../store/vm-store.ts';
import type { StopOptions } from './api.ts';
import type { Creation } from './creation.ts';
import { checkSpace } from './disk-space.ts';
import { withCurrentLeases } from './leases.ts';
import type { Vm } from './model.ts';
import { observedRecord } from './observed.ts';
import { journalEntry, notStarted, notUndone, type Operations, runningNow, stoppedNow } from './operations.ts';
import { startPlanOf, stopPlan } from './plans.ts';
import { checkTotals } from './quotas.ts';
import { buildDetail } from './reservation.ts';
import { RestartLimiter } from './restart-limiter.ts';

/** What a record says of a VM that ended by itself. */
const exitReasons: Readonly<Record<EngineExit['reason'], string>> = {
  shutdown: 'powered off by its guest',
  reset: 'its guest restarts again and again',
  crashed: 'its process ended',
};

/**
 * Brings VMs that exist up and down, whether somebody asked for it or they ended by themselves. Callers hold the VM's other
 * operations back, and have seen that its state allows it.
 */
export class Power {
  readonly #operations: Operations;
  readonly #creation: Pick<Creation, 'lost' | 'uncounted'>;
  /** Operations on one VM, one after another. */
  readonly #serial: Serial<string>;
  readonly #reservations: Pending;
  readonly #restarts = new RestartLimiter();
  #closing = false;

  constructor(
    operations: Operations,
    creation: Pick<Creation, 'lost' | 'uncounted'>,
    serial: Serial<string>,
    reservations: Pending,
  ) {
    this.#operations = operations;
    this.#creation = creation;
    this.#serial = serial;
    this.#reservations = reservations;
  }

  /** Forgets how often the VM restarted by itself. */
  forget(id: string): void {
    this.#restarts.forget(id);
  }

  /** Lets nothing start by itself any more. */
  close(): void {
    this.#closing = true;
  }

  async start(vm: Vm): Promise<Vm> {
    const { layout, settings } = this.#operations.deps;
    const isNew = vm.state === 'created' && vm.snapshotId === null;
    if (isNew) {
      await checkSpace(layout.home, settings.diskReserveMiB);
      // Left of a start of which a host that went down has forgotten everything else.
      await rm(layout.dir(vm.id), { recursive: true, force: true });
    }
    const operation = journalEntry(vm.id, 'start', isNew ? buildDetail(null) : {});
    const starting = await this.reserve({ ...vm, state: 'starting', reason: null }, true, operation);
    try {
      await this.#operations.run(startPlanOf(operation), starting, operation);
    } catch (error) {
      this.#operations.records.emit('vm.failed', vm);
      const outcome = () => this.#operations.finish(starting, notStarted(operation, 'the VM did not start'));
      throw await this.#operations.fail(starting, error, outcome);
    }
    const started = await this.#operations.finish(starting, runningNow('boot', null), 'relaxed');
    this.#operations.records.emit('vm.started', vm);
    return started;
  }

  /** @param reason what the record says of it; null when it was asked for */
  async stop(vm: Vm, options: StopOptions, reason: string | null, hurry?: AbortSignal): Promise<Vm> {
    const operation = journalEntry(vm.id, 'stop', { force: options.force ? 1 : 0, graceMs: options.graceMs ?? null });
    const stopping = await this.#operations.begin({ ...vm, state: 'stopping' }, operation);
    try {
      await this.#operations.run(stopPlan, stopping, operation, hurry);
    } catch (error) {
      await this.#afterFailedStop(stopping, reason);
      throw error;
    }
    const stopped = await this.#operations.finish(stopping, stoppedNow(reason), 'relaxed');
    this.#operations.records.emit('vm.stopped', vm);
    return stopped;
  }

  /** Writes what a VM is that could not be stopped, by looking at it. */
  async #afterFailedStop(vm: Vm, reason: string | null): Promise<void> {
    const { deps, live } = this.#operations;
    try {
      const { engine, layout } = deps;
      const { state } = await engine.observe(vm.id, layout.run(vm.id));
      if (state !== 'absent' && !live.get(vm.id)) await live.adopt(vm.id);
      await this.#operations.finish(vm, state === 'absent' ? stoppedNow(reason) : observedRecord(vm, state));
    } catch (error) {
      deps.log.error({ err: error, vm: vm.id }, 'a VM that could not be stopped does not answer');
      await this.#operations.save({ ...vm, ...notUndone });
    }
  }

  /** Writes the intent to let a VM use more. What is left is looked at and taken at once: two must not both be given it. */
  reserve(vm: Vm, active: boolean, operation: Operation): Promise<Vm> {
    return this.#reservations.run(async () => {
      const { deps, records } = this.#operations;
      const except = [records.get(vm.id), ...this.#creation.uncounted()];
      checkTotals(records.ledger, vm, deps.settings.quotas, { active, tenant: vm.tenant, except });
      const leased = active ? withCurrentLeases(vm, records.ledger, deps.network.plan) : vm;
      return this.#operations.begin(leased, operation);
    });
  }

  /** A VM's process ended without our asking. Waits its turn: an operation in flight may be what ended it. */
  ended(exit: EngineExit): void {
    const { deps, live, records } = this.#operations;
    const cleanUp = async () => {
      if (this.#creation.lost(exit.id)) return;
      const vm = records.find(exit.id);
      if (!vm || (vm.state !== 'running' && vm.state !== 'paused') || live.get(exit.id)) return;
      const restart = exit.reason === 'reset' && this.#restarts.mayRestart(vm.id, vm.startedAt);
      const stopped = await this.stop(vm, { force: true }, restart ? null : exitReasons[exit.reason]);
      if (restart && !this.#closing) await this.start(stopped);
    };
    this.#serial
      .run(exit.id, cleanUp)
      .catch((error) => deps.log.error({ err: error, vm: exit.id }, 'a VM that ended could not be cleaned up'));
  }

  /** A VM was found without its process. */
  async lost(vm: Vm): Promise<void> {
    if (!this.#creation.lost(vm.id)) await this.stop(vm, { force: true }, exitReasons.crashed);
  }
}
