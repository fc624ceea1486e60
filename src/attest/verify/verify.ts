import { padReportData } from '../attest.ts';
import type { Attestation } from '../attestation.ts';
import { decodeAttestation } from '../attestation.ts';
import { FormatError } from '../byte-reader.ts';
import { isRuntimeEvent } from '../events.ts';
import { boundedQuote } from '../limits.ts';
import { findSystemEvent } from '../system-events.ts';
import { isTpmQuote } from '../tpm/tpm-quote.ts';
import { checkContent } from './content.ts';
import { Findings } from './findings.ts';
import type { Expectations, Trust, VerifyInput } from './input.ts';
import type { AttestedClaims, VerificationReport } from './report.ts';
import { verifyTdx } from './tdx.ts';

/**
 * Checks an attestation and says what was checked. It does not throw for what is wrong with the attestation: the report
 * names the check that failed.
 */
export async function verifyAttestation(
  input: VerifyInput,
  trust: Trust,
  expected: Expectations = {},
): Promise<VerificationReport> {
  const findings = new Findings();
  let attestation: Attestation;
  try {
    attestation = await read(input, expected);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    findings.add('format', false, error.message);
    return findings.report(null);
  }
  const platform =
    attestation.platform === 'tdx'
      ? await verifyTdx(attestation.quote, trust, findings)
      : (await import('./tpm.ts')).verifyTpm(attestation, trust, findings);
  if (platform === null) return findings.report(null);
  checkContent(attestation, platform, expected, findings);
  return findings.report({ ...platform.claims, ...eventClaims(attestation) });
}

/**
 * Checks a TDX quote alone, without the events that explain its registers: who signed it, and that nothing was changed.
 */
export async function verifyQuote(quote: Buffer, trust: Trust): Promise<VerificationReport> {
  const findings = new Findings();
  const evidence = await verifyTdx(quote, trust, findings);
  const nothing = { appId: null, composeHash: null, instanceId: null, osImageHash: null, keyProvider: null };
  return findings.report(evidence === null ? null : { ...evidence.claims, ...nothing });
}

async function read(input: VerifyInput, { reportData }: Expectations): Promise<Attestation> {
  if ('attestation' in input) return decodeAttestation(input.attestation);
  const { quote, eventLog, config } = input;
  boundedQuote(quote);
  const beside = input.reportData;
  const runtimeEvents = eventLog.filter(isRuntimeEvent);
  const common = { quote, eventLog, runtimeEvents, config };
  if (!isTpmQuote(quote))
    return { platform: 'tdx', ...common, reportData: beside ? padReportData(beside) : Buffer.alloc(0) };
  // A TPM quote has only its hash, so it must be known.
  const known = reportData ?? beside;
  return {
    platform: 'tpm',
    ...common,
    reportData: known === undefined ? Buffer.alloc(0) : padReportData(known),
  };
}

function eventClaims({ eventLog }: Attestation): Omit<AttestedClaims, 'platform' | 'reportData'> {
  const events = eventLog.filter(isRuntimeEvent);
  const hex = (name: string): string | null => findSystemEvent(events, name)?.toString('hex') ?? null;
  return {
    appId: hex('app-id'),
    composeHash: hex('compose-hash'),
    instanceId: hex('instance-id'),
    osImageHash: hex('os-image-hash'),
    keyProvider: findSystemEvent(events, 'key-provider')?.toString() ?? null,
  };
}
