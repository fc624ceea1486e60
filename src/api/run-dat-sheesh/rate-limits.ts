import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { DialectError } from './errors.ts';
import type { RateLimits } from './settings.ts';

const windowMs = 60_000;

/** A client is its key or log-in; strangers share a bucket per address and cannot use up a known client's. */
function clientOf(request: FastifyRequest): string {
  return request.runDatSheeshPrincipal?.bucket ?? `ip:${request.ip}`;
}

function addressOf(request: FastifyRequest): string {
  return `ip:${request.ip}`;
}

/** Must be registered before the routes it limits. Counts in fixed windows of a minute from a client's first request. */
export async function registerRateLimits(app: FastifyInstance, limits: RateLimits): Promise<void> {
  await app.register(rateLimit, {
    global: limits.others > 0,
    max: limits.others,
    timeWindow: windowMs,
    keyGenerator: clientOf,
    // The original names the window, not what is left of it; `retry-after` has the seconds.
    errorResponseBuilder: () => new DialectError(429, 'Rate limit exceeded, retry in 1 minute'),
  });
}

/** The `rateLimit` entry of a route's config. 0 requests per minute means no limit. */
export function ownBucket(perMinute: number) {
  return perMinute === 0 ? (false as const) : { max: perMinute, timeWindow: windowMs };
}

/** As {@link ownBucket}, but whoever asks, counted by address: for routes where credentials are guessed. */
export function addressBucket(perMinute: number) {
  return perMinute === 0 ? (false as const) : { max: perMinute, timeWindow: windowMs, keyGenerator: addressOf };
}
