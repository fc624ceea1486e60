import { ByteReader, FormatError } from '../byte-reader.ts';
import { sha256 } from '../hash.ts';
import { REGISTER_BYTES } from '../rtmr.ts';
import { ScaleReader, ScaleWriter } from '../scale.ts';
import { quotedPcrs } from './registers.ts';

/** A quote of a TPM with what is needed to check it. */
export interface TpmQuote {
  /** TPMS_ATTEST, as the TPM signed it. */
  readonly attest: Buffer;
  /** TPMT_SIGNATURE: ECDSA with SHA-256. */
  readonly signature: Buffer;
  /** SubjectPublicKeyInfo of the attestation key, DER. */
  readonly publicKey: Buffer;
  /** Values of {@link quotedPcrs} in the SHA-384 bank. */
  readonly pcrs: readonly Buffer[];
}

const FORMAT = 1;
const MAX_BYTES = 16 * 1024;
/** Constants of the TPM 2.0 library specification, part 2. */
const TPM_GENERATED = 0xff544347;
const TPM_ST_ATTEST_QUOTE = 0x8018;
const TPM_ALG_SHA256 = 0x000b;
const TPM_ALG_SHA384 = 0x000c;
const TPM_ALG_ECDSA = 0x0018;

/** What a TPM signs for report data: TPMs take 50 bytes at the most, so its SHA-256. */
export function qualifyingData(reportData: Uint8Array): Buffer {
  return sha256(reportData);
}

/** Berth's own encoding, SCALE: format, attest, signature, public key, values. */
export function encodeTpmQuote({ attest, signature, publicKey, pcrs }: TpmQuote): Buffer {
  return new ScaleWriter().u8(FORMAT).bytes(attest).bytes(signature).bytes(publicKey).raw(Buffer.concat(pcrs)).encode();
}

/** Whether bytes are meant as such a quote; a TDX quote begins with its version, 4 or 5. */
export function isTpmQuote(bytes: Uint8Array): boolean {
  return bytes[0] === FORMAT;
}

/** Reads a quote from untrusted bytes. Throws {@link FormatError}. */
export function parseTpmQuote(bytes: Uint8Array): TpmQuote {
  if (bytes.length > MAX_BYTES) throw new FormatError('the quote is too long');
  const reader = new ScaleReader(bytes);
  if (reader.u8() !== FORMAT) throw new FormatError('not a TPM quote of a format that is known');
  const attest = reader.lengthAndBytes();
  const signature = reader.lengthAndBytes();
  const publicKey = reader.lengthAndBytes();
  const pcrs = quotedPcrs.map(() => reader.bytes(REGISTER_BYTES));
  reader.end();
  return { attest, signature, publicKey, pcrs };
}

/** What a TPM says in a quote. */
export interface TpmStatement {
  /** What the asker gave to be signed. */
  readonly extraData: Buffer;
  /** Hash over the values of the selected PCRs, by the hash of the signature. */
  readonly pcrDigest: Buffer;
}

/** Reads TPMS_ATTEST, which must be a quote over exactly {@link quotedPcrs}. Throws {@link FormatError}. */
export function parseAttest(attest: Uint8Array): TpmStatement {
  const reader = new ByteReader(attest);
  // Only a TPM can begin what a restricted key signs with these bytes.
  if (reader.u32be() !== TPM_GENERATED) throw new FormatError('the TPM did not make this statement');
  if (reader.u16be() !== TPM_ST_ATTEST_QUOTE) throw new FormatError('the statement is not a quote');
  sized(reader);
  const extraData = sized(reader);
  // Clock, reset and restart counts, whether the clock is safe; version of the firmware.
  reader.bytes(17 + 8);
  if (reader.u32be() !== 1 || reader.u16be() !== TPM_ALG_SHA384) throw new FormatError('not the SHA-384 bank alone');
  const selected = reader.bytes(reader.u8());
  const wanted = Buffer.alloc(selected.length);
  for (const index of quotedPcrs) wanted[index >> 3]! |= 1 << (index & 7);
  if (selected.length < 2 || !selected.equals(wanted)) throw new FormatError('the quote is over other PCRs');
  const pcrDigest = sized(reader);
  reader.end();
  return { extraData, pcrDigest };
}

/** r ‖ s of a TPMT_SIGNATURE, which must be ECDSA on P-256 with SHA-256. Throws {@link FormatError}. */
export function parseSignature(signature: Uint8Array): Buffer {
  const reader = new ByteReader(signature);
  if (reader.u16be() !== TPM_ALG_ECDSA || reader.u16be() !== TPM_ALG_SHA256)
    throw new FormatError('not an ECDSA signature with SHA-256');
  const both = [sized(reader), sized(reader)].map((number) => {
    if (number.length > 32) throw new FormatError('a number of the signature is too long');
    return Buffer.concat([Buffer.alloc(32 - number.length), number]);
  });
  reader.end();
  return Buffer.concat(both);
}

/** A TPM2B: its length in two bytes, and its bytes. */
function sized(reader: ByteReader): Buffer {
  return reader.bytes(reader.u16be());
}
