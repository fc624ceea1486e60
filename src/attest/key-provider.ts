/** Where the keys of an app come from. */
export const keyProviderNames = ['none', 'local-sgx', 'kms', 'tpm'] as const;
export type KeyProviderName = (typeof keyProviderNames)[number];

/** The payload of the `key-provider` event, and `Info.key_provider_info` as JSON text. */
export interface KeyProviderInfo {
  readonly name: KeyProviderName;
  /** Hex: the SubjectPublicKeyInfo of the KMS root, the measurement of the local provider; empty for `none`. */
  readonly id: string;
}
