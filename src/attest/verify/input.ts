import type { Attestation } from '../attestation.ts';
import type { Collateral } from '../simulated/collateral.ts';

/** Whom a verifier trusts. */
export interface Trust {
  /** DER of the root certificate; default Intel's. */
  readonly root?: Buffer;
  /** For TDX quotes; see `issueCollateral`, or a PCCS. */
  readonly collateral?: Collateral;
  /** For TPM quotes: the public attestation key, SubjectPublicKeyInfo as DER. */
  readonly attestationKey?: Buffer;
  /** Default now. */
  readonly now?: Date;
  /** Default `UpToDate` alone. */
  readonly acceptedTcb?: readonly string[];
}

/** What an attestation must say. What is left out is not checked. Bytes. */
export interface Expectations {
  /** Up to 64 bytes; shorter ones are padded with zeros. */
  readonly reportData?: Buffer;
  readonly appId?: Buffer;
  /** The text of app-compose.json, its hash, or both. */
  readonly appCompose?: string;
  readonly composeHash?: Buffer;
  readonly osImageHash?: Buffer;
  /** Name, or name and id. */
  readonly keyProvider?: { readonly name: string; readonly id?: string };
  /** The document that MRCONFIGID of version 3 holds the hash of, as canonical JSON. */
  readonly mrConfig?: string;
  readonly measurements?: {
    readonly mrtd?: Buffer;
    readonly rtmr0?: Buffer;
    readonly rtmr1?: Buffer;
    readonly rtmr2?: Buffer;
  };
}

/**
 * An attestation as bytes, or its parts as `GetQuote` gives them. Report data there is what the prover says it is: it is
 * compared with the quote, and is no expectation.
 */
export type VerifyInput =
  | { readonly attestation: Uint8Array }
  | (Pick<Attestation, 'quote' | 'eventLog' | 'config'> & { readonly reportData?: Buffer });
