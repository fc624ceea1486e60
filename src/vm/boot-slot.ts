import type { Engine } from '../engine/engine.ts';

/** Milliseconds between two looks at what a booting VM uses. */
const defaultSampleMs = 1000;
/** A VM that uses less than this share of one processor waits for something: a boot that goes on uses all it gets. */
const idleShare = 0.1;
/** Looks in a row that must find it so. */
const idleSamples = 2;

export interface BootSlotOptions {
  readonly engine: Pick<Engine, 'usage'>;
  readonly id: string;
  readonly dir: string;
  /** Longest time, ms, the place is kept from the start of the VM's process. */
  readonly maxMs: number;
  /** Gives the place to the next. */
  readonly leave: () => void;
  readonly sampleMs?: number;
}

/**
 * The place of a VM among those that boot. It is for the processor time a boot takes, so it is given on when the VM uses
 * none any more, though its guest has not answered, and after some time in any case: images that never come up must not
 * keep others from booting until they are given up on.
 */
export class BootSlot implements Disposable {
  readonly #options: BootSlotOptions;
  readonly #timer: NodeJS.Timeout;
  #startedAt: number | null = null;
  #last: { readonly cpuMicros: number; readonly at: number } | null = null;
  #idle = 0;
  #looking: Promise<void> | null = null;

  constructor(options: BootSlotOptions) {
    this.#options = options;
    this.#timer = setInterval(() => {
      this.#looking ??= this.#sample().finally(() => {
        this.#looking = null;
      });
    }, options.sampleMs ?? defaultSampleMs);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  async #sample(): Promise<void> {
    const { engine, id, dir, maxMs, leave } = this.#options;
    // A VM that cannot be looked at keeps its place for the longest time.
    const usage = await engine.usage(id, dir).catch(() => null);
    const at = performance.now();
    if (usage) this.#startedAt ??= at;
    if (usage && this.#last) {
      const share = (usage.cpuMicros - this.#last.cpuMicros) / 1000 / (at - this.#last.at);
      this.#idle = share < idleShare ? this.#idle + 1 : 0;
    }
    this.#last = usage && { cpuMicros: usage.cpuMicros, at };
    if (this.#idle < idleSamples && (this.#startedAt === null || at - this.#startedAt < maxMs)) return;
    this[Symbol.dispose]();
    leave();
  }
}
