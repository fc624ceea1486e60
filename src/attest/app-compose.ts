import { BerthError } from '../common/errors.ts';
import { sha256 } from './hash.ts';

/** Longest app-compose.json that is read. */
const MAX_COMPOSE_BYTES = 50 * 1024 * 1024;

/** An app's description: the bytes that are hashed, and what they say. */
export interface AppCompose {
  /** The exact text. Its hash is the app's identity, so it is never written anew. */
  readonly text: string;
  /** SHA-256 of the text. */
  readonly hash: Buffer;
  readonly name: string;
  readonly runner: string;
  readonly publicLogs: boolean;
  readonly publicSysinfo: boolean;
  readonly publicTcbinfo: boolean;
  readonly keyProvider: 'none' | 'kms' | 'local' | 'tpm';
  /** Hex, empty when any provider will do. */
  readonly keyProviderId: string;
  readonly allowedEnvs: readonly string[];
  readonly noInstanceId: boolean;
  readonly eventLogVersion: 1 | 2;
  /** File system of the data disk. */
  readonly storageFs: string;
}

/** Reads app-compose.json. @throws BerthError invalid_argument that names the field */
export function parseAppCompose(text: string): AppCompose {
  if (Buffer.byteLength(text) > MAX_COMPOSE_BYTES) throw invalid('the file is too large');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw invalid('not JSON');
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw invalid('not an object');
  const compose = new Fields(json as Readonly<Record<string, unknown>>);
  return {
    text,
    hash: sha256(text),
    name: compose.text('name', ''),
    runner: compose.text('runner', 'docker-compose'),
    publicLogs: compose.flag('public_logs', false),
    publicSysinfo: compose.flag('public_sysinfo', false),
    publicTcbinfo: compose.flag('public_tcbinfo', true),
    keyProvider: keyProvider(compose),
    keyProviderId: compose.text('key_provider_id', '').replace(/^0x/, '').toLowerCase(),
    allowedEnvs: compose.texts('allowed_envs'),
    noInstanceId: compose.flag('no_instance_id', false),
    eventLogVersion: compose.oneOf('event_log_version', [1, 2], 1),
    storageFs: compose.text('storage_fs', 'ext4'),
  };
}

/** `key_provider`, or what the older switches mean. */
function keyProvider(compose: Fields): AppCompose['keyProvider'] {
  const kms = compose.flag('kms_enabled', false);
  const local = compose.flag('local_key_provider_enabled', false);
  return compose.oneOf('key_provider', ['none', 'kms', 'local', 'tpm'], kms ? 'kms' : local ? 'local' : 'none');
}

/**
 * The fields that attestation and keys look at; the others are the app's own business. Null counts as missing. A schema
 * library would be a third of the guest agent's program.
 */
class Fields {
  readonly #json: Readonly<Record<string, unknown>>;

  constructor(json: Readonly<Record<string, unknown>>) {
    this.#json = json;
  }

  text(name: string, otherwise: string): string {
    const value = this.#value(name);
    if (value !== undefined && typeof value !== 'string') throw invalid(`${name}: not a text`);
    return value ?? otherwise;
  }

  texts(name: string): readonly string[] {
    const value = this.#value(name) ?? [];
    if (!Array.isArray(value) || value.some((each) => typeof each !== 'string'))
      throw invalid(`${name}: not a list of texts`);
    return value as string[];
  }

  flag(name: string, otherwise: boolean): boolean {
    const value = this.#value(name);
    if (value !== undefined && typeof value !== 'boolean') throw invalid(`${name}: not true or false`);
    return value ?? otherwise;
  }

  oneOf<const T>(name: string, allowed: readonly T[], otherwise: T): T {
    const value = this.#value(name);
    if (value === undefined) return otherwise;
    const found = allowed.find((each) => each === value);
    if (found === undefined) throw invalid(`${name}: none of ${allowed.join(', ')}`);
    return found;
  }

  #value(name: string): unknown {
    return Object.hasOwn(this.#json, name) ? (this.#json[name] ?? undefined) : undefined;
  }
}

/** Bytes of app and instance ids. */
export const ID_BYTES = 20;

/** The app id of an app that was given none: the first 20 bytes of its hash. */
export function defaultAppId(composeHash: Buffer): Buffer {
  return composeHash.subarray(0, ID_BYTES);
}

/** The id of one instance of an app, from 20 random bytes that it keeps. */
export function instanceId(seed: Uint8Array, appId: Uint8Array): Buffer {
  return sha256(seed, appId).subarray(0, ID_BYTES);
}

function invalid(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason: `Invalid compose file: ${reason}` });
}
