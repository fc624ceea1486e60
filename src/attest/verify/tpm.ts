import type { Attestation } from '../attestation.ts';
import type { Findings } from './findings.ts';
import type { Trust } from './input.ts';
import type { PlatformEvidence } from './platform-evidence.ts';

/** Checks the quote of a TPM. Null when it is none. */
export function verifyTpm(
  _attestation: Attestation,
  _trust: Trust,
  findings: Findings,
): Promise<PlatformEvidence | null> {
  findings.add('format', false, 'TPM quotes are not known yet');
  return Promise.resolve(null);
}
