import { ByteReader, FormatError } from './byte-reader.ts';
import type { Measurements } from './measurements.ts';
import { REGISTER_BYTES } from './rtmr.ts';
import { certificateLabel, fromPem, toPem } from './x509/pem.ts';

/**
 * The TDX quote, version 4 (Intel TDX DCAP Quoting Library API, A.3): header, TD report, and what signs them. All
 * numbers are little-endian.
 */

const HEADER_BYTES = 48;
const TD_REPORT_BYTES = 584;
/** The bytes that the attestation key signs. */
export const SIGNED_BYTES = HEADER_BYTES + TD_REPORT_BYTES;
const QE_REPORT_BYTES = 384;
const KEY_TYPE_P256 = 2;
const TEE_TYPE_TDX = 0x81;
const CERTIFICATION_QE_REPORT = 6;
const CERTIFICATION_PCK_CHAIN = 5;
/** Longest quote that is looked at; those of hardware have about 5 kB. */
const MAX_QUOTE_BYTES = 64 * 1024;

export interface TdReport extends Measurements {
  readonly teeTcbSvn: Buffer;
  readonly mrSeam: Buffer;
  readonly mrSignerSeam: Buffer;
  readonly seamAttributes: Buffer;
  readonly tdAttributes: Buffer;
  readonly xfam: Buffer;
  /** 64 bytes. */
  readonly reportData: Buffer;
}

/** What signs a quote, and what vouches for that. */
export interface QuoteAuth {
  /** r ‖ s over header and report. */
  readonly signature: Buffer;
  /** x ‖ y of the P-256 attestation key. */
  readonly attestationKey: Buffer;
  /** The quoting enclave's own report, which vouches for the attestation key. */
  readonly qeReport: Buffer;
  readonly qeReportSignature: Buffer;
  readonly qeAuthData: Buffer;
  /** PEM of the certificate of the platform, its authority and the root. */
  readonly pckChain: string;
}

export interface TdxQuote extends QuoteAuth {
  readonly report: TdReport;
}

/** Header and TD report of a quote, which the attestation key then signs. */
export function encodeSignedPart(report: TdReport): Buffer {
  const header = quoteHeader(4, TEE_TYPE_TDX);
  const body = Buffer.concat([
    report.teeTcbSvn,
    report.mrSeam,
    report.mrSignerSeam,
    report.seamAttributes,
    report.tdAttributes,
    report.xfam,
    report.mrtd,
    report.mrConfigId,
    report.mrOwner,
    report.mrOwnerConfig,
    ...report.rtmrs,
    report.reportData,
  ]);
  if (body.length !== TD_REPORT_BYTES) throw new RangeError('a field of the TD report has a wrong length');
  return Buffer.concat([header, body]);
}

/** The 48 bytes before a report: version, key type P-256, kind of machine, Intel as the vendor of the quoting enclave. */
export function quoteHeader(version: number, teeType: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16LE(version, 0);
  header.writeUInt16LE(KEY_TYPE_P256, 2);
  header.writeUInt32LE(teeType, 4);
  header.set(Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex'), 12);
  return header;
}

/** The quote over a signed part. */
export function encodeQuote(signedPart: Buffer, quote: QuoteAuth): Buffer {
  const certification = qeCertification(quote);
  const authData = Buffer.concat([
    quote.signature,
    quote.attestationKey,
    typed(CERTIFICATION_QE_REPORT, certification),
  ]);
  return Buffer.concat([signedPart, u32(authData.length), authData]);
}

/** The quoting enclave's report with what signs it. */
export function qeCertification(quote: QuoteAuth): Buffer {
  const authLength = Buffer.alloc(2);
  authLength.writeUInt16LE(quote.qeAuthData.length);
  const chain = typed(CERTIFICATION_PCK_CHAIN, Buffer.from(quote.pckChain));
  return Buffer.concat([quote.qeReport, quote.qeReportSignature, authLength, quote.qeAuthData, chain]);
}

/** A length, as it stands before what it measures. */
export function u32(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

/**
 * Reads a quote from untrusted bytes, and no other encoding of the same quote: nothing may follow it, and the
 * certificates must be written as PEM is written here or by Intel's library. Throws {@link FormatError}.
 */
export function parseQuote(bytes: Uint8Array): TdxQuote {
  if (bytes.length > MAX_QUOTE_BYTES) throw new FormatError('the quote is too long');
  const reader = new ByteReader(bytes);
  const report = readSignedPart(new ByteReader(reader.bytes(SIGNED_BYTES)));
  const authData = new ByteReader(reader.bytes(reader.u32le()));
  reader.end();
  const signature = authData.bytes(64);
  const attestationKey = authData.bytes(64);
  const certification = new ByteReader(readTyped(authData, CERTIFICATION_QE_REPORT));
  authData.end();
  const qeReport = certification.bytes(QE_REPORT_BYTES);
  const qeReportSignature = certification.bytes(64);
  const qeAuthData = certification.bytes(certification.u16le());
  const pckChain = readChain(readTyped(certification, CERTIFICATION_PCK_CHAIN));
  certification.end();
  return { report, signature, attestationKey, qeReport, qeReportSignature, qeAuthData, pckChain };
}

function readSignedPart(reader: ByteReader): TdReport {
  if (reader.u16le() !== 4) throw new FormatError('not a quote of version 4');
  if (reader.u16le() !== KEY_TYPE_P256) throw new FormatError('not an ECDSA P-256 quote');
  if (reader.u32le() !== TEE_TYPE_TDX) throw new FormatError('not a TDX quote');
  reader.bytes(HEADER_BYTES - 8);
  const register = (): Buffer => reader.bytes(REGISTER_BYTES);
  // Fields are read in the order of the initialisers.
  const report: TdReport = {
    teeTcbSvn: reader.bytes(16),
    mrSeam: register(),
    mrSignerSeam: register(),
    seamAttributes: reader.bytes(8),
    tdAttributes: reader.bytes(8),
    xfam: reader.bytes(8),
    mrtd: register(),
    mrConfigId: register(),
    mrOwner: register(),
    mrOwnerConfig: register(),
    rtmrs: [register(), register(), register(), register()],
    reportData: reader.bytes(64),
  };
  reader.end();
  return report;
}

function typed(type: number, content: Buffer): Buffer {
  const head = Buffer.alloc(6);
  head.writeUInt16LE(type, 0);
  head.writeUInt32LE(content.length, 2);
  return Buffer.concat([head, content]);
}

function readTyped(reader: ByteReader, expected: number): Buffer {
  const type = reader.u16le();
  if (type !== expected) throw new FormatError(`certification data of type ${type} where ${expected} belongs`);
  return reader.bytes(reader.u32le());
}

function readChain(content: Buffer): string {
  const text = content.toString('latin1');
  const canonical = fromPem(text, certificateLabel)
    .map((certificate) => toPem(certificate, certificateLabel))
    .join('');
  // Intel's library ends the text with a NUL.
  if (text !== canonical && text !== `${canonical}\0`) throw new FormatError('the certificates are not plain PEM');
  return canonical;
}
