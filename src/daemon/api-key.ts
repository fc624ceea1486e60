import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../common/files.ts';

export interface ApiKeyChoice {
  readonly key: string;
  /** Null when the key came with the configuration. */
  readonly file: string | null;
  /** True when this start made it: the one time it is shown. */
  readonly isNew: boolean;
}

/** The key of all listeners: the configured one, else the stored one, else a new one, stored for its owner only. */
export async function chooseApiKey(configured: string, home: string): Promise<ApiKeyChoice> {
  if (configured !== '') return { key: configured, file: null, isNew: false };
  const file = join(home, 'api-key');
  const stored = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  if (stored.trim() !== '') return { key: stored.trim(), file, isNew: false };
  const key = randomBytes(32).toString('base64url');
  await writeFileAtomic(file, `${key}\n`, 0o600);
  return { key, file, isNew: true };
}
