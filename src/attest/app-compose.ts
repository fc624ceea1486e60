import { z } from 'zod';
import { BerthError } from '../common/errors.ts';
import { sha256 } from './hash.ts';

/** Longest app-compose.json that is read. */
export const MAX_COMPOSE_BYTES = 50 * 1024 * 1024;

const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);

/** The fields that attestation and keys look at; unknown fields are the app's own business. */
const schema = z.object({
  name: z
    .string()
    .nullish()
    .transform((value) => value ?? ''),
  runner: z
    .string()
    .nullish()
    .transform((value) => value ?? 'docker-compose'),
  public_logs: flag,
  public_sysinfo: flag,
  public_tcbinfo: z
    .boolean()
    .nullish()
    .transform((value) => value ?? true),
  kms_enabled: flag,
  local_key_provider_enabled: flag,
  key_provider: z.enum(['none', 'kms', 'local', 'tpm']).nullish(),
  key_provider_id: z
    .string()
    .nullish()
    .transform((value) => (value ?? '').replace(/^0x/, '').toLowerCase()),
  allowed_envs: z
    .array(z.string())
    .nullish()
    .transform((value) => value ?? []),
  no_instance_id: flag,
  event_log_version: z
    .union([z.literal(1), z.literal(2)])
    .nullish()
    .transform((value) => value ?? 1),
  storage_fs: z
    .string()
    .nullish()
    .transform((value) => value ?? 'ext4'),
});

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
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw invalid(`${issue?.path.join('.') || 'file'}: ${issue?.message}`);
  }
  const compose = parsed.data;
  return {
    text,
    hash: sha256(text),
    name: compose.name,
    runner: compose.runner,
    publicLogs: compose.public_logs,
    publicSysinfo: compose.public_sysinfo,
    publicTcbinfo: compose.public_tcbinfo,
    keyProvider:
      compose.key_provider ?? (compose.kms_enabled ? 'kms' : compose.local_key_provider_enabled ? 'local' : 'none'),
    keyProviderId: compose.key_provider_id,
    allowedEnvs: compose.allowed_envs,
    noInstanceId: compose.no_instance_id,
    eventLogVersion: compose.event_log_version,
    storageFs: compose.storage_fs,
  };
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
