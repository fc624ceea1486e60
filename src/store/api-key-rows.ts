import { CredentialRows, credentialColumns, type StoredCredential } from './credential-rows.ts';
import type { Database } from './database.ts';

/** A client's key: its public prefix and the hash of the whole. */
export interface StoredApiKey extends StoredCredential {
  readonly prefix: string;
  readonly lastUsedAt: string | null;
}

export class ApiKeyRows extends CredentialRows<StoredApiKey> {
  constructor(db: Database) {
    super(db, 'api_keys', { ...credentialColumns, prefix: 'prefix', lastUsedAt: 'last_used_at' });
  }

  /** Newest first. */
  async list(): Promise<readonly StoredApiKey[]> {
    return this.select('ORDER BY created_at DESC');
  }

  async findByPrefix(prefix: string): Promise<StoredApiKey | null> {
    return this.select('WHERE prefix = ?', prefix)[0] ?? null;
  }

  async touch(id: string, at: string): Promise<void> {
    await this.db.write((writer) => writer.run('UPDATE api_keys SET last_used_at = ? WHERE id = ?', at, id), 'relaxed');
  }
}
