/** Guests that reboot sooner than this after their start are counted. */
const shortLifeMs = 60_000;
const maxShortLives = 5;

/**
 * Tells a guest that reboots from one that cannot live: a kernel that panics looks like a reboot to the host, and would be
 * started again and again for ever.
 */
export class RestartLimiter {
  readonly #shortLives = new Map<string, number>();

  /** Notes a reboot of a guest that was started at `startedAt`; false when it should not be started any more. */
  mayRestart(id: string, startedAt: string | null, now = Date.now()): boolean {
    const lived = startedAt === null ? 0 : now - Date.parse(startedAt);
    const count = lived < shortLifeMs ? (this.#shortLives.get(id) ?? 0) + 1 : 0;
    this.#shortLives.set(id, count);
    return count < maxShortLives;
  }

  /** Somebody started or removed the VM: the count begins anew. */
  forget(id: string): void {
    this.#shortLives.delete(id);
  }
}
