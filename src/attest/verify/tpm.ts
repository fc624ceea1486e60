import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { Attestation } from '../attestation.ts';
import { FormatError } from '../byte-reader.ts';
import { sha256 } from '../hash.ts';
import type { Rtmrs } from '../rtmr.ts';
import { quotedPcrs, registerPcrs } from '../tpm/registers.ts';
import {
  parseAttest,
  parseSignature,
  parseTpmQuote,
  qualifyingData,
  type TpmQuote,
  type TpmStatement,
} from '../tpm/tpm-quote.ts';
import type { Findings } from './findings.ts';
import type { Trust } from './input.ts';
import type { PlatformEvidence } from './platform-evidence.ts';

/** Checks the quote of a TPM. Null when it is none. */
export function verifyTpm(attestation: Attestation, trust: Trust, findings: Findings): PlatformEvidence | null {
  let quote: TpmQuote;
  let statement: TpmStatement;
  let signature: Buffer;
  let key: KeyObject;
  try {
    quote = parseTpmQuote(attestation.quote);
    statement = parseAttest(quote.attest);
    signature = parseSignature(quote.signature);
    key = publicKey(quote.publicKey);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    findings.add('format', false, error.message);
    return null;
  }
  findings.add('format', true, `TPM quote over the PCRs ${quotedPcrs.join(', ')}`);
  const trusted = trust.attestationKey?.equals(quote.publicKey) ?? false;
  findings.add(
    'root',
    trusted,
    trusted
      ? 'the attestation key is the trusted one; no maker of TPMs vouches for it here'
      : trust.attestationKey === undefined
        ? 'there is no trusted attestation key'
        : 'the attestation key is not the trusted one',
  );
  const wrong = wrongQuote(quote, statement, signature, key);
  findings.add('quote', wrong === null, wrong ?? 'the signature and the values of the PCRs are good');
  findings.skip('tcb', 'TPMs have no signed TCB state here');
  const registers = registerPcrs.map((index) => quote.pcrs[quotedPcrs.indexOf(index)]!);
  return {
    // The quote binds a hash of it; other data beside the quote is as good as none.
    reportData: qualifyingData(attestation.reportData).equals(statement.extraData)
      ? attestation.reportData
      : Buffer.alloc(0),
    rtmrs: registers as unknown as Rtmrs,
    mrtd: null,
    mrConfigId: null,
    claims: {
      platform: 'tpm',
      reportData: attestation.reportData.toString('hex'),
      pcrs: Object.fromEntries(quotedPcrs.map((index, at) => [index, quote.pcrs[at]!.toString('hex')])),
    },
  };
}

function wrongQuote(quote: TpmQuote, { pcrDigest }: TpmStatement, signature: Buffer, key: KeyObject): string | null {
  if (!verify('sha256', quote.attest, { key, dsaEncoding: 'ieee-p1363' }, signature)) return 'the signature is wrong';
  return sha256(...quote.pcrs).equals(pcrDigest) ? null : 'the values of the PCRs are not those that were signed';
}

function publicKey(spki: Buffer): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch {
    throw new FormatError('the attestation key is not one');
  }
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new FormatError('the key is not on P-256');
  return key;
}
