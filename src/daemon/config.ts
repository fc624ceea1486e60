import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { parse, stringify } from 'smol-toml';
import { type Config, environmentName, flagName, type SettingKey, settingKeys, settings } from './settings.ts';

/** A setting that cannot be used; the message names where it came from. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ConfigError';
  }
}

/** Variables that are not settings: where the file is, and what set-up and tests pass on. */
const otherVariables = new Set(['BERTH_CONFIG', 'BERTH_FAILPOINT', 'BERTH_SETUP_TIMINGS']);

export interface ConfigSources {
  /** Path of a TOML file, null for none. */
  readonly file: string | null;
  readonly env: NodeJS.ProcessEnv;
  /** By setting key. */
  readonly flags: Readonly<Partial<Record<SettingKey, unknown>>>;
}

/** Reads file, environment and flags, in that order. Unknown keys are refused. Throws {@link ConfigError}. */
export function loadConfig(sources: ConfigSources): Config {
  const values: Partial<Record<SettingKey, unknown>> = {};
  if (sources.file !== null) readFile(sources.file, values);
  readEnvironment(sources.env, values);
  for (const key of settingKeys)
    if (sources.flags[key] !== undefined) values[key] = check(key, sources.flags[key], flagName(key));
  const config = Object.fromEntries(settingKeys.map((key) => [key, values[key] ?? settings[key].default])) as Config;
  return {
    ...config,
    home: resolve(config.home || defaultHome(sources.env)),
    cache: resolve(config.cache || defaultCache(sources.env)),
  };
}

/** The effective configuration as a TOML file; secrets are left out. */
export function printConfig(config: Config): string {
  const tree: Record<string, Record<string, unknown> | unknown> = {};
  for (const key of settingKeys) {
    if (settings[key].secret) continue;
    const [section, name] = key.split('.') as [string, string | undefined];
    if (name === undefined) tree[section] = config[key];
    else {
      tree[section] ??= {};
      (tree[section] as Record<string, unknown>)[name] = config[key];
    }
  }
  return stringify(tree);
}

function readFile(path: string, values: Partial<Record<SettingKey, unknown>>): void {
  let tree: Record<string, unknown>;
  try {
    tree = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new ConfigError(`${path}: ${error instanceof Error ? error.message.split('\n')[0] : 'cannot be read'}`);
  }
  for (const [section, value] of Object.entries(tree)) {
    const isTable = typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
    const entries = isTable
      ? Object.entries(value).map(([name, inner]) => [`${section}.${name}`, inner] as const)
      : [[section, value] as const];
    for (const [key, inner] of entries) {
      if (!isKey(key)) throw new ConfigError(`${path}: unknown setting ${key}`);
      values[key] = check(key, inner, `${path}: ${key}`);
    }
  }
}

function readEnvironment(env: NodeJS.ProcessEnv, values: Partial<Record<SettingKey, unknown>>): void {
  const byName = new Map(settingKeys.map((key) => [environmentName(key), key]));
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('BERTH_') || otherVariables.has(name) || name.startsWith('BERTH_TEST_') || value === undefined)
      continue;
    const key = byName.get(name);
    if (!key) throw new ConfigError(`unknown environment variable ${name}`);
    if (value !== '') values[key] = check(key, value, name);
  }
}

function check(key: SettingKey, value: unknown, source: string): unknown {
  const result = settings[key].schema.safeParse(value);
  if (result.success) return result.data;
  throw new ConfigError(`${source}: ${result.error.issues[0]?.message ?? 'invalid'}`);
}

function isKey(key: string): key is SettingKey {
  return Object.hasOwn(settings, key);
}

function defaultHome(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/lib/berth';
  return join(env.XDG_STATE_HOME || join(homedir(), '.local/state'), 'berth');
}

function defaultCache(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/cache/berth';
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'berth');
}
