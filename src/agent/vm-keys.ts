import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { AppCompose } from '../attest/app-compose.ts';
import { type AppKeys, appKeysFromSeed, parseAppKeys, serializeAppKeys } from '../attest/app-keys.ts';
import type { Attestor } from '../attest/attest.ts';
import { BerthError } from '../common/errors.ts';
import { writeFileAtomic } from '../common/files.ts';
import { readIfThere } from '../common/read-if-there.ts';
import type { SysConfig } from './sys-config.ts';
import type { SealedSeed, Tee } from './tee.ts';

export interface KeySources {
  /** `.appkeys.json`: read when it is there, written when keys had to be got. */
  readonly path: string;
  readonly compose: AppCompose;
  readonly sysConfig: SysConfig;
  readonly attestor: Attestor;
  readonly seeds: Tee['seeds'];
}

/**
 * The keys of this VM's app: those of this boot, or new ones by the app's key provider.
 * @throws BerthError invalid_argument when the provider is one that nobody here can ask
 */
export async function readAppKeys(sources: KeySources): Promise<AppKeys> {
  const text = readIfThere(sources.path);
  if (text !== null) return parseAppKeys(text);
  const keys = await newKeys(sources);
  mkdirSync(dirname(sources.path), { recursive: true });
  await writeFileAtomic(sources.path, serializeAppKeys(keys), 0o600);
  return keys;
}

async function newKeys({ compose, sysConfig, attestor, seeds }: KeySources): Promise<AppKeys> {
  const attest = (reportData: Buffer) => attestor.attest(reportData, { stripped: true });
  switch (compose.keyProvider) {
    case 'none':
      return appKeysFromSeed(undefined, { attest });
    case 'kms': {
      const [url] = sysConfig.kmsUrls;
      if (url === undefined) throw new BerthError('invalid_argument', { reason: 'the host names no KMS' });
      // Most apps have no KMS, and its client is large.
      const { requestAppKeys } = await import('../kms/client.ts');
      return requestAppKeys({ url, pinnedRoot: compose.keyProviderId, attest, vmConfig: sysConfig.vmConfig });
    }
    case 'local':
    case 'tpm': {
      const sealedSeed = seeds[compose.keyProvider];
      if (sealedSeed === undefined)
        throw new BerthError('invalid_argument', { reason: `this VM has no ${keepers[compose.keyProvider].what}` });
      return sealedAppKeys(compose.keyProvider, compose, await sealedSeed(), attest);
    }
  }
}

/** Who keeps a secret for an app, by the app's key provider. */
const keepers = {
  local: { name: 'local-sgx', what: 'local key provider' },
  tpm: { name: 'tpm', what: 'TPM' },
} as const;

/**
 * The keys that come from a secret which the machine keeps for the app.
 * @throws BerthError invalid_argument when the app names another keeper
 */
export function sealedAppKeys(
  provider: keyof typeof keepers,
  { keyProviderId }: AppCompose,
  { seed, keeper }: SealedSeed,
  attest: (reportData: Buffer) => Promise<Buffer>,
): Promise<AppKeys> {
  const { name, what } = keepers[provider];
  if (keyProviderId !== '' && keyProviderId !== keeper)
    throw new BerthError('invalid_argument', { reason: `the ${what} is not the one that the app names` });
  return appKeysFromSeed(seed, { provider: name, providerId: keeper, attest });
}
