import type { Serial } from '../common/concurrency.ts';
import { BerthError } from '../common/errors.ts';
import type { Vm, VmState } from './model.ts';
import type { Records } from './records.ts';

/** What users ask for, in turn: one operation at a time on each VM that they see, and none once the daemon is to end. */
export class Turns {
  readonly #records: Records;
  readonly #serial: Serial<string>;
  #isClosed = false;

  constructor(records: Records, serial: Serial<string>) {
    this.#records = records;
    this.#serial = serial;
  }

  /** Lets nothing begin any more. */
  close(): void {
    this.#isClosed = true;
  }

  /** Throws `shutting_down` once closed. */
  refuseWhenClosed(): void {
    if (this.#isClosed) throw new BerthError('shutting_down');
  }

  /** Runs a task when the operations on the VM that were asked for before have ended. Rejects with `vm_not_found`. */
  async run<T>(id: string, task: () => Promise<T>): Promise<T> {
    this.refuseWhenClosed();
    this.find(id);
    return this.#serial.run(id, task);
  }

  /** Throws `vm_not_found`, for one that is hidden too. */
  find(id: string): Vm {
    const vm = this.#records.get(id);
    if (vm.hidden) throw new BerthError('vm_not_found', { id });
    return vm;
  }

  /**
   * Throws `wrong_state` unless the VM is in one of the states.
   * @param expected what it should be, and for what: "STOPPED to start"
   */
  expect(id: string, states: readonly VmState[], expected: string): Vm {
    const vm = this.find(id);
    if (!states.includes(vm.state))
      throw new BerthError('wrong_state', { expected, actual: vm.state.toUpperCase(), state: vm.state });
    return vm;
  }
}
