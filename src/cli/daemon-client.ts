import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ConfigError } from '../daemon/config.ts';
import type { Config } from '../daemon/settings.ts';

/**
 * A call of the run dat sheesh API of the daemon that runs on this data directory. Resolves with the JSON of the answer,
 * null when there is none. Throws ConfigError with the daemon's own words when it refuses, or when none runs.
 */
export async function callDaemon(config: Config, method: string, path: string, body?: unknown): Promise<unknown> {
  const key = config.api_key === '' ? await readText(join(config.home, 'api-key')) : config.api_key;
  const response = await fetch((await daemonUrl(config)) + path, {
    method,
    headers: { 'x-api-key': key.trim(), ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  }).catch((error: unknown) => {
    throw new ConfigError(`no daemon answers for ${config.home}: ${(error as Error).message}`);
  });
  const text = await response.text();
  if (response.ok) return text === '' ? null : JSON.parse(text);
  throw new ConfigError(messageOf(text) ?? `the daemon answered ${response.status}`);
}

async function daemonUrl({ home }: Config): Promise<string> {
  const listeners = JSON.parse(await readText(join(home, 'listeners.json'))) as Record<string, string>;
  const url = listeners['run-dat-sheesh'] ?? '';
  if (!url.startsWith('http'))
    throw new ConfigError('the daemon listens on a unix socket only, which this command does not speak to');
  return url;
}

async function readText(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    throw new ConfigError(`no daemon runs on this data directory: ${(error as Error).message}`);
  });
}

function messageOf(text: string): string | null {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return typeof message === 'string' ? message : null;
  } catch {
    return null;
  }
}
