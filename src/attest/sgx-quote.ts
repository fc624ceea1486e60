import { ByteReader, FormatError } from './byte-reader.ts';
import { type QuoteAuth, qeCertification, quoteHeader, u32 } from './tdx-quote.ts';

/** SGX enclaves' reports and quotes of version 3, as far as the local key provider needs them. */

const TEE_TYPE_SGX = 0;
const HEADER_BYTES = 48;
const REPORT_BYTES = 384;

/** Report of an enclave that is not a debug one. */
export function enclaveReport(
  enclave: {
    readonly mrEnclave: Buffer;
    readonly mrSigner: Buffer;
    readonly productId: number;
    readonly securityVersion: number;
  },
  reportData: Buffer,
): Buffer {
  const report = Buffer.alloc(REPORT_BYTES);
  // Attributes: initialised, 64 bit, provisioning key.
  report[48] = 0x15;
  report.set(enclave.mrEnclave, 64);
  report.set(enclave.mrSigner, 128);
  report.writeUInt16LE(enclave.productId, 256);
  report.writeUInt16LE(enclave.securityVersion, 258);
  report.set(reportData, 320);
  return report;
}

/** Header and report, which the attestation key then signs. */
export function sgxSignedPart(report: Buffer): Buffer {
  return Buffer.concat([quoteHeader(3, TEE_TYPE_SGX), report]);
}

/** The quote over a signed part. */
export function encodeSgxQuote(signedPart: Buffer, auth: QuoteAuth): Buffer {
  const authData = Buffer.concat([auth.signature, auth.attestationKey, qeCertification(auth)]);
  return Buffer.concat([signedPart, u32(authData.length), authData]);
}

/** What a quote says of its enclave. Believe it only when the quote was verified. Throws {@link FormatError}. */
export function readEnclave(quote: Uint8Array): { readonly mrEnclave: Buffer; readonly reportData: Buffer } {
  const reader = new ByteReader(quote);
  if (reader.u16le() !== 3) throw new FormatError('not an SGX quote of version 3');
  reader.bytes(HEADER_BYTES - 2);
  const report = reader.bytes(REPORT_BYTES);
  return { mrEnclave: report.subarray(64, 96), reportData: report.subarray(320) };
}
