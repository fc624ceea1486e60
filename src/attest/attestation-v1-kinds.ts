/** Names of the platforms in attestations of version 1. Berth's TPM mode is its own. */
export const platformKinds = { tdx: 'tdx', tpm: 'berth-tpm' } as const;
