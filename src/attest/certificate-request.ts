/** What `GetTlsKey` asks for, with the defaults of an absent field filled in. */
export interface TlsKeyRequest {
  readonly subject: string;
  /** Host names and IP addresses. */
  readonly altNames: readonly string[];
  /** Put an attestation of the key into the certificate. */
  readonly usageRaTls: boolean;
  readonly usageServerAuth: boolean;
  readonly usageClientAuth: boolean;
  /** Seconds since 1970; default 1975-01-01. */
  readonly notBefore?: number;
  /** Seconds since 1970; default ten years from now. */
  readonly notAfter?: number;
  /** Put the app's info into the certificate. */
  readonly withAppInfo: boolean;
}

/** A key and its certificate, as PEM. */
export interface TlsKey {
  /** PKCS#8. */
  readonly key: string;
  /** The certificate first. */
  readonly certificateChain: readonly string[];
}
