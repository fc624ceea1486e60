import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import type { Log } from '../../common/log.ts';
import type { ApiKeyRecord, ApiKeyStore } from './ports.ts';

const keyPattern = /^rds_([0-9a-f]{12})_[A-Za-z0-9_-]{32}$/;
const touchIntervalMs = 60_000;

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Compares with a secret in a time that tells nothing about it; the secret itself is not kept. */
export function secretMatcher(secret: string): (candidate: string) => boolean {
  const expected = sha256(secret);
  return (candidate) => timingSafeEqual(sha256(candidate), expected);
}

/** A new key and the record that is stored of it. The key itself is shown once and never stored. */
export function mintApiKey(name: string, expiresAt: string | null, now: number): { key: string; record: ApiKeyRecord } {
  const prefix = randomBytes(6).toString('hex');
  const key = `rds_${prefix}_${randomBytes(24).toString('base64url')}`;
  const record: ApiKeyRecord = {
    id: randomUUID(),
    name,
    prefix,
    hash: sha256(key).toString('hex'),
    createdAt: new Date(now).toISOString(),
    expiresAt,
    revokedAt: null,
    lastUsedAt: null,
  };
  return { key, record };
}

/** Checks keys that clients made. */
export class ApiKeyVerifier {
  readonly #store: ApiKeyStore;
  readonly #clock: () => number;
  readonly #log: Log;

  constructor(store: ApiKeyStore, clock: () => number, log: Log) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  /** True when the text has the form of such a key, so that asking the store makes sense. */
  static looksLikeKey(text: string): boolean {
    return keyPattern.test(text);
  }

  /** The record of a valid key: known, not revoked, not expired. */
  async verify(key: string): Promise<ApiKeyRecord | null> {
    const prefix = keyPattern.exec(key)?.[1];
    if (prefix === undefined) return null;
    const record = await this.#store.findByPrefix(prefix);
    if (record === null || !timingSafeEqual(sha256(key), Buffer.from(record.hash, 'hex'))) return null;
    const now = this.#clock();
    if (record.revokedAt !== null) return null;
    if (record.expiresAt !== null && Date.parse(record.expiresAt) <= now) return null;
    this.#touch(record, now);
    return record;
  }

  #touch(record: ApiKeyRecord, now: number): void {
    if (record.lastUsedAt !== null && now - Date.parse(record.lastUsedAt) < touchIntervalMs) return;
    this.#store
      .touch(record.id, new Date(now).toISOString())
      .catch((error: unknown) => this.#log.warn({ err: error, keyId: record.id }, 'use of an API key was not noted'));
  }
}
