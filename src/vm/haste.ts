/** Who waits for VMs to be down, and no longer for their guests to end by themselves. */
export class Haste {
  /** Those who wait, by VM. */
  readonly #waiting = new Map<string, number>();
  /** Guests that are being given time, by VM: operations on one VM follow one another. */
  readonly #graces = new Map<string, AbortController>();
  #everywhere = false;

  /** Runs a task that gives a guest time to end. Its signal is aborted as soon as somebody hurries. */
  async grace<T>(id: string, task: (hurry: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    if (this.#everywhere || this.#waiting.has(id)) controller.abort();
    this.#graces.set(id, controller);
    try {
      return await task(controller.signal);
    } finally {
      this.#graces.delete(id);
    }
  }

  /** Runs a task that waits its turn on a VM: until it is done no guest of that VM is given more time. */
  async during<T>(id: string, task: () => Promise<T>): Promise<T> {
    this.#waiting.set(id, (this.#waiting.get(id) ?? 0) + 1);
    this.#graces.get(id)?.abort();
    try {
      return await task();
    } finally {
      const others = (this.#waiting.get(id) ?? 1) - 1;
      if (others === 0) this.#waiting.delete(id);
      else this.#waiting.set(id, others);
    }
  }

  /** From now on no guest is given more time. */
  everywhere(): void {
    this.#everywhere = true;
    for (const controller of this.#graces.values()) controller.abort();
  }
}
