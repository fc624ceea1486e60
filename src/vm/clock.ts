import type { Log } from '../common/log.ts';
import type { GuestClient } from '../guest/guest.ts';
import type { Vm } from './model.ts';

/** Milliseconds a guest has to take its new time, before those who wait for it go on without. */
const clockMs = 2000;

/** Tells a guest that stood still what time it is, where it can be told anything. Never rejects. */
export async function tellTime(
  { id, guestChannel }: Pick<Vm, 'id' | 'guestChannel'>,
  guest: Pick<GuestClient, 'setClock'> | undefined,
  log: Log,
): Promise<void> {
  if (guestChannel !== 'required') return;
  try {
    await guest?.setClock(clockMs);
  } catch (error) {
    // The guest's own trouble; a request to it will tell of it.
    log.warn({ err: error, vm: id }, 'a VM that stood still could not be told the time');
  }
}
