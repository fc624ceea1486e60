import type { TpmTools } from './tools.ts';

/** Where the key is kept in the TPM: in the range that owners may use. */
const HANDLE = '0x81010b17';

/**
 * The attestation key of a TPM: restricted to sign what the TPM itself made, derived from the TPM's endorsement seed, so it
 * is the same until that is cleared. P-256.
 *
 * @returns its SubjectPublicKeyInfo, DER
 */
export async function attestationKey(tools: TpmTools): Promise<Buffer> {
  return tools.operation(async ({ path, read, run }) => {
    const known = await run('tpm2_getcap', 'handles-persistent');
    if (!known.toLowerCase().includes(HANDLE)) {
      const attributes = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign';
      await run(
        'tpm2_createprimary',
        ...['-Q', '-C', 'e', '-G', 'ecc256:ecdsa-sha256:null', '-a', attributes, '-c', path('key')],
      );
      await run('tpm2_evictcontrol', '-Q', '-C', 'o', '-c', path('key'), HANDLE);
    }
    await run('tpm2_readpublic', '-Q', '-c', HANDLE, '-f', 'der', '-o', path('public'));
    return read('public');
  });
}

export const ATTESTATION_KEY_HANDLE = HANDLE;
