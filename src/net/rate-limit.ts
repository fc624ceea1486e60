/**
 * Limits on what a VM receives: a token bucket on its tap, which goes with the tap. What it sends is limited in the packet
 * filter, before anything else is made of it (nft-ruleset.ts): the kernel queues nothing that arrives.
 */

import { BerthError } from '../common/errors.ts';
import { runHostTool } from './host-tool.ts';
import type { RateLimit } from './network.ts';

/** The kernel hands on packets of up to 64 KiB and headers whole, and a bucket that one does not fit into lets none pass. */
const smallestBurst = 128 * 1024;
const largestBurst = 2 ** 31 - 1;
const slowest = 1000;
/** Twice the fastest networks there are. */
const fastest = 100e9;
/** How long a packet may wait for its turn before it is dropped. */
const latencyMs = 100;

/**
 * The limit as it is enforced.
 *
 * @throws BerthError `invalid_argument`
 */
export function checkRateLimit({ bytesPerSecond, burstBytes }: RateLimit): RateLimit {
  if (!Number.isSafeInteger(bytesPerSecond) || bytesPerSecond < slowest || bytesPerSecond > fastest)
    throw new BerthError('invalid_argument', {
      reason: `a rate limit must be a whole number of bytes per second from ${slowest} to ${fastest}`,
    });
  if (!Number.isSafeInteger(burstBytes) || burstBytes < 0 || burstBytes > largestBurst)
    throw new BerthError('invalid_argument', {
      reason: `the burst of a rate limit must be a whole number of bytes from 0 to ${largestBurst}`,
    });
  return { bytesPerSecond, burstBytes: Math.max(smallestBurst, burstBytes) };
}

/** Gives taps that are there their limits. */
export async function limitTaps(limits: ReadonlyMap<string, RateLimit>): Promise<void> {
  if (limits.size === 0) return;
  const lines = [...limits].map(
    ([tap, { bytesPerSecond, burstBytes }]) =>
      `qdisc replace dev ${tap} root tbf rate ${bytesPerSecond}bps burst ${burstBytes} latency ${latencyMs}ms`,
  );
  await runHostTool('tc', ['-batch', '-'], { input: `${lines.join('\n')}\n` });
}
