import { X509Certificate } from 'node:crypto';
import { FormatError } from '../byte-reader.ts';
import { mrAggregated } from '../measurements.ts';
import { parseQuote, type TdxQuote } from '../tdx-quote.ts';
import { certificateLabel, fromPem } from '../x509/pem.ts';
import type { Findings } from './findings.ts';
import type { Trust } from './input.ts';
import type { PlatformEvidence } from './platform-evidence.ts';

/** Checks a TDX quote. Null when it is none. */
export async function verifyTdx(bytes: Buffer, trust: Trust, findings: Findings): Promise<PlatformEvidence | null> {
  let quote: TdxQuote;
  try {
    quote = parseQuote(bytes);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    findings.add('format', false, error.message);
    return null;
  }
  const { constants } = await import('@phala/dcap-qvl');
  const root = trust.root ?? constants.TRUSTED_ROOT_CA_DER;
  // Not before the certificates end at the maker's root: what merely should have is not hardware's.
  const last = fromPem(quote.pckChain, certificateLabel).at(-1);
  findings.simulated = !(last?.equals(root) && root.equals(constants.TRUSTED_ROOT_CA_DER));
  findings.add('format', true, 'TDX quote of version 4, every byte accounted for');
  const tcb = checkRoot(last, root, findings) ? await checkQuote(bytes, root, trust, findings) : null;
  const { mrtd, rtmrs, reportData } = quote.report;
  const hex = (bytes: Buffer): string => bytes.toString('hex');
  return {
    rtmrs,
    reportData,
    mrtd,
    mrConfigId: quote.report.mrConfigId,
    claims: {
      platform: 'tdx',
      mrtd: hex(mrtd),
      rtmr0: hex(rtmrs[0]),
      rtmr1: hex(rtmrs[1]),
      rtmr2: hex(rtmrs[2]),
      rtmr3: hex(rtmrs[3]),
      mrAggregated: hex(mrAggregated(quote.report)),
      reportData: hex(reportData),
      ...(tcb === null ? {} : { tcbStatus: tcb.status, advisories: tcb.advisories }),
    },
  };
}

/** The last certificate of a quote is its root. It must be the trusted one itself. */
function checkRoot(last: Buffer | undefined, root: Buffer, findings: Findings): boolean {
  const name = (certificate: Buffer | undefined): string => {
    try {
      return certificate === undefined ? 'nothing' : new X509Certificate(certificate).subject.replaceAll('\n', ', ');
    } catch {
      return 'what is not a certificate';
    }
  };
  if (last?.equals(root)) return findings.add('root', true, `the certificates end at ${name(root)}`);
  findings.skip('quote', 'nothing leads to the trusted root');
  findings.skip('tcb', 'nothing leads to the trusted root');
  return findings.add('root', false, `the certificates end at ${name(last)}, trusted is ${name(root)}`);
}

interface Tcb {
  readonly status: string;
  readonly advisories: readonly string[];
}

async function checkQuote(quote: Buffer, root: Buffer, trust: Trust, findings: Findings): Promise<Tcb | null> {
  const { collateral, now = new Date(), acceptedTcb = ['UpToDate'] } = trust;
  if (collateral === undefined) {
    findings.skip('tcb', 'there is no collateral');
    findings.add('quote', false, 'collateral is needed to verify the signatures');
    return null;
  }
  const { QuoteVerifier } = await import('@phala/dcap-qvl');
  try {
    const verifier = QuoteVerifier.newWithRootCa(root);
    const { status, advisory_ids: advisories } = verifier.verify(quote, collateral, Math.floor(now.getTime() / 1000));
    findings.add('quote', true, 'all signatures are good, nothing is revoked or expired');
    findings.add('tcb', acceptedTcb.includes(status), [status, ...advisories].join(' '));
    return { status, advisories };
  } catch (error) {
    // The library tells everything that is wrong with its input by an Error.
    findings.skip('tcb', 'the quote is not good');
    findings.add('quote', false, (error as Error).message);
    return null;
  }
}
