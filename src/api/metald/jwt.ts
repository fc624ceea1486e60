/** Tokens of an identity provider: JWTs signed by a key of its key set. */

import { createHash } from 'node:crypto';
import { errors, type JWTVerifyGetKey, jwtVerify } from 'jose';
import type { Log } from '../../common/log.ts';
import { isCustomerId } from './auth.ts';
import { BoundedCache } from './bounded-cache.ts';
import { openKeySet } from './key-set.ts';

export interface JwtOptions {
  /** URL (https, or http on this host) or absolute path of the provider's key set. */
  readonly keySet: string;
  readonly issuer: string;
  readonly audience: string;
  /** Claim that holds the customer's id. */
  readonly customerClaim: string;
  /** Least time between two looks for keys that are not known yet, ms; default 30 s behind a URL, 1 s in a file. */
  readonly keyCooldownMs?: number;
}

/** Signatures by key pairs: with a shared secret whoever can check a token could make one. */
const algorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
];

const jwtPattern = /^[\w-]+\.[\w-]+\.[\w-]+$/;
const longestToken = 8192;
/** How long a token that was good is taken without another look at its signature, ms; never beyond its own end. */
const believedMs = 60_000;
const remembered = 10_000;

export class JwtVerifier {
  readonly #options: JwtOptions;
  readonly #keys: JWTVerifyGetKey;
  readonly #clock: () => number;
  readonly #log: Log;
  readonly #good = new BoundedCache<{ readonly customer: string; readonly until: number }>(remembered);

  private constructor(options: JwtOptions, keys: JWTVerifyGetKey, clock: () => number, log: Log) {
    this.#options = options;
    this.#keys = keys;
    this.#clock = clock;
    this.#log = log;
  }

  /** Reads a key set that is a file; one behind a URL is fetched when it is needed, and both again when keys change. */
  static async open(options: JwtOptions, clock: () => number, log: Log): Promise<JwtVerifier> {
    const { keySet: source } = options;
    const cooldownMs = options.keyCooldownMs ?? (/^https?:/.test(source) ? 30_000 : 1000);
    return new JwtVerifier(options, await openKeySet({ source, cooldownMs, clock, log }), clock, log);
  }

  recognizes(token: string): boolean {
    return token.length <= longestToken && jwtPattern.test(token);
  }

  /** The token's customer; null when it is not good. */
  verify(token: string): string | Promise<string | null> {
    const hash = createHash('sha256').update(token).digest('base64');
    const known = this.#good.get(hash);
    return known && this.#clock() < known.until ? known.customer : this.#verify(token, hash);
  }

  async #verify(token: string, hash: string): Promise<string | null> {
    const now = this.#clock();
    const { issuer, audience, customerClaim } = this.#options;
    try {
      const { payload } = await jwtVerify(token, this.#keys, {
        algorithms,
        issuer,
        audience,
        requiredClaims: ['exp'],
        clockTolerance: 5,
        currentDate: new Date(now),
      });
      const customer = payload[customerClaim];
      if (typeof customer !== 'string' || !isCustomerId(customer)) return null;
      this.#good.set(hash, { customer, until: Math.min(now + believedMs, Number(payload.exp) * 1000) });
      return customer;
    } catch (error) {
      // A token that is not good is the client's affair; a key set that cannot be had is the operator's.
      const isToken = error instanceof errors.JOSEError && !(error instanceof errors.JWKSTimeout);
      if (!isToken) this.#log.warn({ err: error }, 'the key set of tokens cannot be read');
      return null;
    }
  }
}
