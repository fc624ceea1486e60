import { isIP } from 'node:net';
import { BerthError } from '../../common/errors.ts';

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

const MAX_SUBJECT_BYTES = 1024;
const MAX_ORGANIZATION_BYTES = 1024;
const MAX_ALT_NAMES = 256;
/** RFC 5280 has no year after 9999. */
const LATEST = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;
/** Default begin of validity: a guest's clock may be far behind. */
const DEFAULT_NOT_BEFORE = Date.UTC(1975, 0, 1) / 1000;
const DEFAULT_DAYS = 3650;

interface RequestNames {
  readonly subject: string;
  readonly organization?: string;
  readonly altNames: readonly string[];
}

/** Names and dates of a certificate, checked. @throws BerthError invalid_argument */
export function checkNames({ subject, organization = '', altNames }: RequestNames): void {
  if (Buffer.byteLength(organization) > MAX_ORGANIZATION_BYTES)
    throw invalid(`organization has more than ${MAX_ORGANIZATION_BYTES} bytes`);
  if (Buffer.byteLength(subject) > MAX_SUBJECT_BYTES) throw invalid(`subject has more than ${MAX_SUBJECT_BYTES} bytes`);
  // There are readers to which a name ends at a zero byte: it would be another's.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  if (/[\0-\x1f\x7f]/.test(subject + organization)) throw invalid('subject or organization has a control character');
  if (altNames.length > MAX_ALT_NAMES) throw invalid(`there are more than ${MAX_ALT_NAMES} alt_names`);
  for (const name of altNames)
    if (isIP(name) === 0 && !/^[\x21-\x7e]{1,253}$/.test(name)) throw invalid('an alt_name is not a host name');
}

/** @throws BerthError invalid_argument */
export function validity(
  notBefore: number | undefined,
  notAfter: number | undefined,
): { readonly notBefore: Date; readonly notAfter: Date } {
  const from = notBefore ?? DEFAULT_NOT_BEFORE;
  // A client that fills in every field of the message sends 0 for a date it does not care about.
  const until = notAfter || Math.floor(Date.now() / 1000) + DEFAULT_DAYS * 24 * 60 * 60;
  if (from > LATEST || until > LATEST) throw invalid('not_before and not_after end with the year 9999');
  if (from >= until) throw invalid('not_before must be earlier than not_after');
  return { notBefore: new Date(from * 1000), notAfter: new Date(until * 1000) };
}

function invalid(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason });
}
