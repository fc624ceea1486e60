/** Runs tasks of one key one after another, in the order they were asked for; different keys run side by side. */
export class Serial<K> {
  readonly #tails = new Map<K, Promise<unknown>>();
  readonly #yielding = new Map<K, AbortController>();

  run<T>(key: K, task: () => Promise<T>): Promise<T> {
    this.#yielding.get(key)?.abort();
    const previous = this.#tails.get(key) ?? Promise.resolve();
    const result = previous.then(task, task);
    const tail = result.then(
      () => {},
      () => {},
    );
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }

  /** As {@link run}, for a task that makes way: its signal is aborted when another task of the key is asked for. */
  runYielding<T>(key: K, task: (wanted: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    const result = this.run(key, () => task(controller.signal));
    this.#yielding.set(key, controller);
    const forget = () => {
      if (this.#yielding.get(key) === controller) this.#yielding.delete(key);
    };
    void result.then(forget, forget);
    return result;
  }

  /** Whether a task of this key runs or waits. */
  isBusy(key: K): boolean {
    return this.#tails.has(key);
  }

  /** Resolves when nothing runs any more. */
  async idle(): Promise<void> {
    while (this.#tails.size > 0) await Promise.all(this.#tails.values());
  }
}

/** Runs tasks side by side, each from the moment it is handed over, and can be waited for. */
export class Pending {
  readonly #tasks = new Set<Promise<unknown>>();

  run<T>(task: () => Promise<T>): Promise<T> {
    const result = task();
    const settled = result.then(
      () => {},
      () => {},
    );
    this.#tasks.add(settled);
    void settled.then(() => this.#tasks.delete(settled));
    return result;
  }

  /** Resolves when nothing runs any more. */
  async idle(): Promise<void> {
    while (this.#tasks.size > 0) await Promise.all(this.#tasks);
  }
}

/**
 * Waits for tasks that run side by side until the last has ended, whatever became of the others: what they leave may be
 * taken away then. Throws what the first of them that failed did.
 */
export async function settled(tasks: readonly (Promise<unknown> | null)[]): Promise<void> {
  for (const outcome of await Promise.allSettled(tasks)) if (outcome.status === 'rejected') throw outcome.reason;
}

/** Admits at most `limit` tasks at a time, first come, first served. */
export class Admission {
  readonly #limit: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  get isIdle(): boolean {
    return this.#running === 0;
  }

  /** `task` may give its place to the next before it ends, by the function it is given. */
  async run<T>(task: (leave: () => void) => Promise<T>): Promise<T> {
    if (this.#running >= this.#limit) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    let isInside = true;
    const leave = () => {
      if (!isInside) return;
      isInside = false;
      // The place is handed on, not freed and taken again, so that nobody can slip in between.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running--;
    };
    try {
      return await task(leave);
    } finally {
      leave();
    }
  }
}

/** Runs `task` for each item, at most `limit` at a time. Rejects with the first failure, and begins no more then. */
export async function forEachLimited<T>(
  items: Iterable<T>,
  limit: number,
  task: (item: T) => Promise<unknown>,
): Promise<void> {
  // All workers take from one generator: whoever is free has the next item, and one that fails closes it.
  const queue = (function* () {
    yield* items;
  })();
  const work = async () => {
    for (const item of queue) await task(item);
  };
  await Promise.all(Array.from({ length: limit }, work));
}
