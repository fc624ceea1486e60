/** Telling a guest who it is, in as few round trips as it takes to be true. */

import { BerthError } from '../common/errors.ts';
import type { GuestIdentified, GuestIdentity, GuestStep } from './guest.ts';
import { clockParameters, decodeIdentified, decodeSteps, type IdentityAnswer, identityParameters } from './identity.ts';
import { Parameters, tag } from './protocol.ts';

/** A guest takes its time to come to the request, the more so when it was saved or boots. Then its clock is set again. */
const MAX_CLOCK_ERROR_MS = 10;
const CLOCK_ATTEMPTS = 3;

/** A request with a short answer. */
export type GuestCall = (path: string, parameters: Parameters) => Promise<Buffer>;

/**
 * @param diskBytes null: the disk is not looked at
 * @param begun when `identity.unixTimeMs` was right, on the clock of `performance.now`
 */
export async function identify(
  call: GuestCall,
  identity: GuestIdentity,
  diskBytes: number | null,
  begun: number,
): Promise<GuestIdentified> {
  const hostTime = (): number => identity.unixTimeMs + (performance.now() - begun);
  const configured = call('/configure', identityParameters({ ...identity, unixTimeMs: hostTime() }));
  // Sent behind it at once; the guest waits for nothing of it.
  const growing = diskBytes === null ? Promise.resolve([]) : grow(call, diskBytes);
  const answered = configured.then(async (body) => {
    const answer = understood(() => decodeIdentified(body));
    const late = hostTime() - answer.unixTimeMs;
    await correctClock(call, hostTime, late);
    return { ...answer, clockSkewMs: answer.clockSkewMs - late };
  });
  const [{ hello, steps, clockSkewMs }, grown] = await Promise.all([answered, growing]);
  return { hello, steps: [...steps, ...grown], clockSkewMs };
}

/** Sets a guest's clock to the host's: again, where the guest came to it late. */
export async function setClock(call: GuestCall): Promise<void> {
  await correctClock(call, Date.now, Number.POSITIVE_INFINITY);
}

async function correctClock(call: GuestCall, hostTime: () => number, error: number): Promise<void> {
  let late = error;
  for (let attempt = 0; late > MAX_CLOCK_ERROR_MS && attempt < CLOCK_ATTEMPTS; attempt++) {
    const body = await call('/configure', clockParameters(hostTime()));
    late = hostTime() - understood(() => decodeIdentified(body)).unixTimeMs;
  }
}

async function grow(call: GuestCall, diskBytes: number): Promise<readonly GuestStep[]> {
  const body = await call('/grow', new Parameters().add(tag.diskBytes, diskBytes));
  return understood(() => decodeSteps(body));
}

/** What a guest that speaks nonsense is to its callers. */
function understood<T extends IdentityAnswer | readonly GuestStep[]>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw new BerthError('guest_unavailable', {}, error);
  }
}
