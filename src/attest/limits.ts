import { FormatError } from './byte-reader.ts';

/** Bounds on attestations that come from outside, checked before their elements are read. */

/** Longest attestation that is read. */
export const MAX_ATTESTATION_BYTES = 1024 * 1024;

/** Entries of an event log, and of a list of runtime events. */
export const MAX_EVENTS = 4096;

/** A TDX quote with its certificates has about 5 KB. */
export const MAX_QUOTE_BYTES = 64 * 1024;

/** The quote, when it is not too long. Throws {@link FormatError}. */
export function boundedQuote<T extends Uint8Array>(quote: T): T {
  if (quote.length > MAX_QUOTE_BYTES) throw new FormatError('the quote is too long');
  return quote;
}
