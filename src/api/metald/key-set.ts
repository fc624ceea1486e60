/** The keys that an identity provider signs tokens with: behind a URL, or in a file. */

import { readFile, stat } from 'node:fs/promises';
import { createLocalJWKSet, createRemoteJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import type { Log } from '../../common/log.ts';

/** How long a provider may take to answer, ms. */
const fetchTimeoutMs = 5000;

export interface KeySetOptions {
  /** URL or absolute path. */
  readonly source: string;
  /** Least time between two looks for keys that are not known yet, ms. */
  readonly cooldownMs: number;
  readonly clock: () => number;
  readonly log: Log;
}

/**
 * A set whose changes are noticed: a key that is not known is looked for at the URL again; a file that has changed is read
 * again. Rejects for a file that holds no key set.
 */
export async function openKeySet(options: KeySetOptions): Promise<JWTVerifyGetKey> {
  const { source, cooldownMs } = options;
  if (/^https?:/.test(source))
    return createRemoteJWKSet(new URL(source), { timeoutDuration: fetchTimeoutMs, cooldownDuration: cooldownMs });
  const file = new KeyFile(options);
  await file.read();
  return async (header, token) => (await file.current())(header, token);
}

class KeyFile {
  readonly #options: KeySetOptions;
  #keys: JWTVerifyGetKey | null = null;
  #version = '';
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(options: KeySetOptions) {
    this.#options = options;
  }

  /** The keys, of a file that was looked at lately. One that cannot be read leaves those from before. */
  async current(): Promise<JWTVerifyGetKey> {
    const { clock, cooldownMs, log, source } = this.#options;
    if (clock() - this.#lookedAt >= cooldownMs) {
      try {
        await this.read();
      } catch (error) {
        log.warn({ err: error, file: source }, 'the key set of tokens cannot be read; the one from before counts');
      }
    }
    if (this.#keys === null) throw new Error('there is no key set');
    return this.#keys;
  }

  async read(): Promise<void> {
    this.#lookedAt = this.#options.clock();
    const { mtimeMs, size, ino } = await stat(this.#options.source);
    const version = `${mtimeMs} ${size} ${ino}`;
    if (version === this.#version) return;
    this.#keys = createLocalJWKSet(JSON.parse(await readFile(this.#options.source, 'utf8')) as JSONWebKeySet);
    this.#version = version;
  }
}
