/** Runs tasks one after another in the order they were given. A failed task does not stop the next. */
export class Serial {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(task);
    // Whoever called handles the failure; the chain only needs to know that the task is over.
    this.#tail = result.catch(() => {});
    return result;
  }
}
