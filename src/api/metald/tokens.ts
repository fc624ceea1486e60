/** Tokens that the operator gives to customers: `bt_<id>_<secret>`. Only their hashes are kept. */

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { BoundedCache } from './bounded-cache.ts';
import type { CustomerToken, CustomerTokenStore } from './ports.ts';

const tokenPattern = /^bt_([a-z0-9]{16})_([A-Za-z0-9_-]{43})$/;

/** How long an answer of the store is believed, ms: a token that is revoked is refused after that. */
const believedMs = 1000;
const remembered = 10_000;

export interface NewToken {
  readonly id: string;
  /** Shown once, to whoever asked for it. */
  readonly token: string;
  readonly hash: string;
}

export function makeToken(): NewToken {
  const id = randomBytes(8).toString('hex');
  // Of 256 random bits: nobody guesses it, so a plain hash protects it.
  const token = `bt_${id}_${randomBytes(32).toString('base64url')}`;
  return { id, token, hash: hashOf(token) };
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('hex');
}

export class TokenVerifier {
  readonly #store: CustomerTokenStore;
  readonly #clock: () => number;
  /** By hash: a heap that is read by somebody else holds no tokens of ours. */
  readonly #answers: BoundedCache<{ readonly at: number; readonly record: CustomerToken | null }>;

  constructor(store: CustomerTokenStore, clock: () => number) {
    this.#store = store;
    this.#clock = clock;
    this.#answers = new BoundedCache(remembered);
  }

  recognizes(token: string): boolean {
    return tokenPattern.test(token);
  }

  /** The token's customer; null when it is not good, or not any more. */
  verify(token: string): string | null | Promise<string | null> {
    const id = tokenPattern.exec(token)?.[1];
    if (id === undefined) return null;
    const hash = hashOf(token);
    const known = this.#answers.get(hash);
    if (known && this.#clock() - known.at < believedMs) return this.#judge(known.record, hash);
    return this.#ask(id, hash);
  }

  async #ask(id: string, hash: string): Promise<string | null> {
    const record = await this.#store.find(id);
    this.#answers.set(hash, { at: this.#clock(), record });
    return this.#judge(record, hash);
  }

  #judge(record: CustomerToken | null, hash: string): string | null {
    if (!record || record.revokedAt !== null) return null;
    if (record.expiresAt !== null && Date.parse(record.expiresAt) <= this.#clock()) return null;
    return timingSafeEqual(Buffer.from(record.hash, 'hex'), Buffer.from(hash, 'hex')) ? record.customer : null;
  }
}
