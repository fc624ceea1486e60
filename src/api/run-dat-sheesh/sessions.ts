import { createHash, randomBytes } from 'node:crypto';

interface Session {
  readonly email: string;
  readonly expiresAt: number;
}

const lifetimeMs = 12 * 60 * 60 * 1000;
const maxSessions = 1000;

function digest(token: string): string {
  return createHash('sha256').update(token).digest('base64url');
}

/**
 * Log-ins of the admin. They live in memory, so a daemon restart logs out; only hashes of the tokens are kept.
 *
 * @example const token = sessions.create('admin@example.org'); sessions.find(token)?.email
 */
export class Sessions {
  readonly #clock: () => number;
  readonly #byDigest = new Map<string, Session>();

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** The token for the cookie: 256 random bits in base64url. The oldest session goes when there are too many. */
  create(email: string): string {
    const token = randomBytes(32).toString('base64url');
    if (this.#byDigest.size >= maxSessions) {
      for (const oldest of this.#byDigest.keys()) {
        this.#byDigest.delete(oldest);
        break;
      }
    }
    this.#byDigest.set(digest(token), { email, expiresAt: this.#clock() + lifetimeMs });
    return token;
  }

  find(token: string): Session | null {
    const key = digest(token);
    const session = this.#byDigest.get(key);
    if (session === undefined) return null;
    if (session.expiresAt > this.#clock()) return session;
    this.#byDigest.delete(key);
    return null;
  }

  end(token: string): void {
    this.#byDigest.delete(digest(token));
  }
}

/** Seconds, for the cookie. */
export const sessionMaxAge = lifetimeMs / 1000;
