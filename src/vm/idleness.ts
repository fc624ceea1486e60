/** What one look at a VM from outside tells. */
export interface IdleSample {
  /** Milliseconds of a clock that never goes back. */
  readonly at: number;
  /** CPU time of the VM's process so far. */
  readonly cpuMicros: number;
  /** Packets on the VM's interface so far, both ways; 0 where there is no way to it. */
  readonly packets: number;
}

/**
 * Share of one core below which a guest does nothing: its kernel's housekeeping is all that is left. Emulated guests were
 * seen to use up to 2 % while nothing ran in them, and more for some seconds after a boot.
 */
const restingCpuShare = 0.04;

/** How long one VM has been idle, from the times it was used and from samples taken now and then. */
export class Idleness {
  #last: IdleSample | null = null;
  #busyAt: number;

  constructor(now: number) {
    this.#busyAt = now;
  }

  /** The VM is in use at this moment. */
  use(now: number): void {
    this.#busyAt = now;
  }

  /** Takes a sample. What happened since the one before counts as having happened now; without one before, all may have. */
  observe(sample: IdleSample): void {
    if (this.#last === null || isBusyBetween(this.#last, sample)) this.#busyAt = sample.at;
    this.#last = sample;
  }

  /** What comes next cannot be compared with what was: the VM stood still, or worked for somebody. */
  forget(now: number): void {
    this.#last = null;
    this.#busyAt = now;
  }

  /** Milliseconds since anything was seen to happen. */
  since(now: number): number {
    return now - this.#busyAt;
  }
}

function isBusyBetween(before: IdleSample, after: IdleSample): boolean {
  if (after.packets !== before.packets) return true;
  return after.cpuMicros - before.cpuMicros > (after.at - before.at) * 1000 * restingCpuShare;
}
