import type { Serial } from '../common/concurrency.ts';
import type { Operations } from './operations.ts';

/**
 * Removes VMs that nobody is to see any more: spares, copies of a fork that failed, those that templates are made of. What
 * cannot be removed when its time has come, as when a host tool failed, is kept in mind and tried again.
 */
export class Remains {
  readonly #operations: Operations;
  readonly #serial: Serial<string>;
  readonly #ids = new Set<string>();

  constructor(operations: Operations, serial: Serial<string>) {
    this.#operations = operations;
    this.#serial = serial;
  }

  /** Those that are still there: they take no room from anybody. */
  get ids(): ReadonlySet<string> {
    return this.#ids;
  }

  /** Keeps in mind what is left of a VM that came to nothing, if anything is. */
  note(id: string): void {
    if (this.#operations.records.find(id)) this.#ids.add(id);
  }

  /** Removes a VM in its turn, now or later. Never rejects. */
  erase(id: string): Promise<void> {
    return this.#serial.run(id, () => this.eraseInTurn(id));
  }

  /** As {@link erase}, for who holds the VM's other operations back. */
  async eraseInTurn(id: string): Promise<void> {
    const { deps, records } = this.#operations;
    try {
      // One that was claimed can be seen, and may have been removed by whoever saw it.
      if (records.find(id)) await this.#operations.erase(id);
      this.#ids.delete(id);
    } catch (error) {
      this.#ids.add(id);
      deps.log.error({ err: error, vm: id }, 'a VM that nobody sees could not be removed');
    }
  }

  /** Tries again with all of them. Never rejects. */
  async retry(): Promise<void> {
    await Promise.all([...this.#ids].map((id) => this.erase(id)));
  }
}
