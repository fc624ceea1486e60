/** Waiting for a guest that does not answer yet. */

import { setTimeout as sleep } from 'node:timers/promises';

import { BerthError } from '../common/errors.ts';

/** Between attempts while the channel cannot even be opened. */
const RETRY_MS = 50;

/**
 * Repeats what fails because the guest cannot be reached. Rejects with `guest_unavailable` when the signal fires, and at
 * once with any other failure.
 */
export async function untilAnswered<T>(over: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await unless(over, attempt());
    } catch (error) {
      if (over.aborted) throw asUnavailable(error);
      if (!isTransient(error)) throw error;
      await sleep(RETRY_MS, undefined, { signal: over }).catch(() => {
        throw asUnavailable(error);
      });
    }
  }
}

/** The promise's result, or `guest_unavailable` as soon as the signal fires. */
export async function unless<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(new BerthError('guest_unavailable', {}, signal.reason));
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function isTransient(error: unknown): boolean {
  return error instanceof BerthError && (error.code === 'guest_unavailable' || error.code === 'guest_interrupted');
}

function asUnavailable(error: unknown): BerthError {
  return error instanceof BerthError && error.code === 'guest_unavailable'
    ? error
    : new BerthError('guest_unavailable', {}, error);
}
