import type { AppRoot } from './app-key.ts';

/** How an app's certificates are signed, and by whom its keys were given. */
export type KeyProvider =
  | {
      readonly name: 'none' | 'local-sgx' | 'tpm';
      /** PEM (PKCS#8) of the app's own P-256 certificate authority. */
      readonly caKey: string;
      /** Hex; empty for `none`. */
      readonly id: string;
    }
  | {
      readonly name: 'kms';
      readonly url: string;
      /** Hex of the SubjectPublicKeyInfo of the KMS root certificate. */
      readonly id: string;
      /** PEM of the authority that signs client certificates for the KMS, and its key. */
      readonly tempCaCert: string;
      readonly tempCaKey: string;
    };

/** Everything secret that an app gets: `.appkeys.json`. */
export interface AppKeys extends AppRoot {
  /** 32 bytes. */
  readonly diskCryptKey: Buffer;
  /** 32-byte X25519 private key; empty without a KMS. */
  readonly envCryptKey: Buffer;
  readonly gatewayAppId: string;
  /** PEM of the certificate that app certificates end at: the KMS root, or the app's own root. */
  readonly caCert: string;
  readonly keyProvider: KeyProvider;
}
