/** What one check of an attestation found. */
export interface Check {
  readonly name: CheckName;
  readonly ok: boolean;
  /** Whether what the check rests on is a simulation and not hardware. */
  readonly simulated: boolean;
  /** What was compared, or what is wrong. For people; the wording may change. */
  readonly detail: string;
}

/**
 * The checks, in the order in which they are made:
 *
 * - `format`: attestation and quote are what they should be, to the last byte
 * - `root`: the certificates in the quote end at the trusted root; in TPM mode, the attestation key is the trusted one
 * - `quote`: every signature from that root to the registers and the report data; revocation lists, dates, no debug mode
 * - `tcb`: the state of the platform's firmware, by the signed collateral
 * - `report-data`: the quote binds the data that it should
 * - `event-log`: the events, measured one after another, give the registers of the quote
 * - `configuration`: MRCONFIGID, which the host set before the start, fits the events
 * - `compose-hash`, `app-id`, `os-image`, `key-provider`: what the events say is what was expected
 * - `measurements`: the registers of the boot hold the expected values
 */
export type CheckName =
  | 'format'
  | 'root'
  | 'quote'
  | 'tcb'
  | 'report-data'
  | 'event-log'
  | 'configuration'
  | 'compose-hash'
  | 'app-id'
  | 'os-image'
  | 'key-provider'
  | 'measurements';

/** What an attestation says, in hex. Believe it only when the report is valid. */
export interface AttestedClaims {
  readonly platform: 'tdx' | 'tpm';
  readonly mrtd?: string;
  readonly rtmr0?: string;
  readonly rtmr1?: string;
  readonly rtmr2?: string;
  readonly rtmr3?: string;
  readonly mrAggregated?: string;
  /** Of a TPM, by index. */
  readonly pcrs?: Readonly<Record<string, string>>;
  readonly reportData: string;
  readonly appId: string | null;
  readonly composeHash: string | null;
  readonly instanceId: string | null;
  readonly osImageHash: string | null;
  /** JSON text. */
  readonly keyProvider: string | null;
  readonly tcbStatus?: string;
  readonly advisories?: readonly string[];
}

export interface VerificationReport {
  /** Every check that was made is ok. What was not asked for is in `notChecked`. */
  readonly valid: boolean;
  /** True unless the signatures end at the maker of the hardware. */
  readonly simulated: boolean;
  readonly checks: readonly Check[];
  /** What could be checked and was not, with the reason. */
  readonly notChecked: readonly { readonly name: CheckName; readonly why: string }[];
  /** Null when the format was not understood. */
  readonly claims: AttestedClaims | null;
}
