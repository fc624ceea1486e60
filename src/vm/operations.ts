import type { Durability } from '../store/commit-queue.ts';
import type { Operation, OperationKind, VmStore } from '../store/vm-store.ts';
import { BootSlot } from './boot-slot.ts';
import type { OperationContext, OperationOutcome, VmDependencies } from './context.ts';
import type { LiveVms } from './live.ts';
import type { StartMode, Vm } from './model.ts';
import { makesFiles, type Plan, removePlan } from './plans.ts';
import type { Records } from './records.ts';
import { NotUndoneError, runSteps, stepsOf } from './run-steps.ts';
import { hygieneStep, secondHygieneStep } from './steps/clone.ts';
import { guestStep } from './steps/guest.ts';

/**
 * The life of one operation: intent into the journal, steps, outcome. The record in memory follows the store, never the
 * other way round.
 */
export class Operations {
  readonly deps: VmDependencies;
  readonly live: LiveVms;
  readonly records: Records;

  constructor(deps: VmDependencies, live: LiveVms, records: Records) {
    this.deps = deps;
    this.live = live;
    this.records = records;
  }

  /** `hurry` as in {@link OperationContext}; without it the guest has all the time it was given. */
  context(vm: Vm, { detail }: Operation, hurry = new AbortController().signal): OperationContext {
    return { deps: this.deps, live: this.live, vm, detail, outcome: { renewal: null }, hurry };
  }

  /** Writes a new VM's row and the intent to build it, null where there is nothing to build yet. */
  async reserve(vm: Vm, operation: Operation | null): Promise<Vm> {
    return this.#claimed(vm, () => this.deps.store.insert(vm, operation));
  }

  async begin(vm: Vm, operation: Operation): Promise<Vm> {
    const next = changedNow(vm);
    return this.#claimed(next, () => this.deps.store.begin(next, operation));
  }

  /** What a VM is to have is taken from the call on, so that whoever looked at what is left calls without a pause. */
  async #claimed(vm: Vm, write: () => Promise<void>): Promise<Vm> {
    const claim = this.records.claim(vm);
    try {
      await write();
    } catch (error) {
      claim.withdraw();
      throw error;
    }
    return this.records.put(vm);
  }

  /** @param durability as in {@link VmStore.finish} */
  async finish(vm: Vm, change: Partial<Vm>, durability?: Durability): Promise<Vm> {
    const next = changedNow({ ...vm, ...change });
    await this.deps.store.finish(next, durability);
    return this.records.put(next);
  }

  async save(vm: Vm): Promise<Vm> {
    const next = changedNow(vm);
    await this.deps.store.update(next);
    return this.records.put(next);
  }

  /**
   * Keeps what was seen of a VM. It is shown even when it cannot be written, as on a full disk: the next daemon looks for
   * itself.
   */
  async observed(vm: Vm): Promise<Vm> {
    const next = changedNow(vm);
    try {
      await this.deps.store.update(next, 'relaxed');
    } catch (error) {
      this.deps.log.error({ err: error, vm: vm.id }, 'what was seen of a VM could not be written');
    }
    return this.records.put(next);
  }

  async forget(id: string): Promise<void> {
    await this.deps.store.delete(id);
    this.records.delete(id);
  }

  /** Takes a VM down and forgets it, whatever state it is in. The caller holds its other operations back. */
  async erase(id: string): Promise<void> {
    const operation = journalEntry(id, 'remove');
    const vm = await this.begin({ ...this.records.get(id), state: 'removing' }, operation);
    await this.run(removePlan, vm, operation);
    await this.forget(id);
  }

  /**
   * After steps failed with `error`: writes the outcome, unless something of them is still there. Then the VM is `failed`
   * and keeps its leases and its journal entry, for a removal or the next start of the daemon. Returns what to throw.
   */
  async fail(vm: Vm, error: unknown, outcome: () => Promise<unknown>): Promise<unknown> {
    if (!(error instanceof NotUndoneError)) {
      await outcome();
      return error;
    }
    await this.save({ ...vm, ...notUndone });
    return error.cause;
  }

  /** Runs the steps, boots only as many at a time as the host has cores for, and logs what each took. */
  async run(plan: Plan, vm: Vm, operation: Operation, hurry?: AbortSignal): Promise<OperationOutcome> {
    const started = performance.now();
    const context = this.context(vm, operation, hurry);
    const run = () => runSteps(operation.kind, plan, context, this.deps.log);
    const steps = stepsOf(plan);
    const isStart = [guestStep, hygieneStep, secondHygieneStep].some((step) => steps.includes(step));
    const timings = isStart ? await this.#admitted(vm, run) : await run();
    const totalMicros = Math.round((performance.now() - started) * 1000);
    this.deps.log.info({ vm: vm.id, operation: operation.kind, totalMicros, steps: timings }, 'operation done');
    return context.outcome;
  }

  #admitted<T>({ id }: Vm, boot: () => Promise<T>): Promise<T> {
    const { admission, engine, layout, settings } = this.deps;
    return admission.run(async (leave) => {
      using _ = new BootSlot({ engine, id, dir: layout.run(id), maxMs: settings.bootSlotMs, leave });
      return await boot();
    });
  }
}

function changedNow(vm: Vm): Vm {
  return { ...vm, changedAt: new Date().toISOString() };
}

export function journalEntry(vmId: string, kind: OperationKind, detail: Operation['detail'] = {}): Operation {
  return { vmId, kind, detail, startedAt: new Date().toISOString() };
}

/** What changes in a record when a start was undone; `reason` says why. */
export function notStarted(operation: Operation, reason: string): Partial<Vm> {
  return makesFiles(operation) ? { state: 'created', reason } : stoppedNow(reason);
}

/** What changes in a record when parts of the VM are on the host that could not be removed. */
export const notUndone: Partial<Vm> = { state: 'failed', reason: 'parts of it could not be removed' };

/** What changes in a record when the VM has come up. */
export function runningNow(startMode: StartMode, renewal: Vm['renewal']): Partial<Vm> {
  const startedAt = new Date().toISOString();
  return { state: 'running', startMode, renewal, startedAt, stoppedAt: null, reason: null };
}

/** What changes in a record when the VM is down; `reason` says why, null when it was asked for. */
export function stoppedNow(reason: string | null): Partial<Vm> {
  return { state: 'stopped', stoppedAt: new Date().toISOString(), reason };
}
