import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { AppCompose } from '../attest/app-compose.ts';
import { type AppKeys, appKeysFromSeed, parseAppKeys, serializeAppKeys } from '../attest/app-keys.ts';
import type { Attestor } from '../attest/attest.ts';
import { BerthError } from '../common/errors.ts';
import { writeFileAtomic } from '../common/files.ts';
import { readIfThere } from './read-if-there.ts';
import type { SysConfig } from './sys-config.ts';
import type { Tee } from './tee.ts';

export interface KeySources {
  /** `.appkeys.json`: read when it is there, written when keys had to be got. */
  readonly path: string;
  readonly compose: AppCompose;
  readonly sysConfig: SysConfig;
  readonly attestor: Attestor;
  readonly sealedSeed: Tee['sealedSeed'];
}

/**
 * The keys of this VM's app: those of this boot, or new ones by the app's key provider.
 * @throws BerthError invalid_argument when the provider is one that nobody here can ask
 */
export async function readAppKeys(sources: KeySources): Promise<AppKeys> {
  const text = readIfThere(sources.path);
  if (text !== null) return parseAppKeys(text);
  const keys = await newKeys(sources);
  await mkdir(dirname(sources.path), { recursive: true });
  await writeFileAtomic(sources.path, serializeAppKeys(keys), 0o600);
  return keys;
}

async function newKeys({ compose, sysConfig, attestor, sealedSeed }: KeySources): Promise<AppKeys> {
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
    case 'tpm': {
      if (sealedSeed === null) throw new BerthError('invalid_argument', { reason: 'this VM has no TPM' });
      const { seed, keeper } = await sealedSeed();
      if (compose.keyProviderId !== '' && compose.keyProviderId !== keeper)
        throw new BerthError('invalid_argument', { reason: 'the TPM is not the one that the app names' });
      return appKeysFromSeed(seed, { provider: 'tpm', providerId: keeper, attest });
    }
    default:
      throw new BerthError('invalid_argument', { reason: `nobody gives keys of the provider ${compose.keyProvider}` });
  }
}
