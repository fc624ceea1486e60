import type { Expectations, Trust } from '../verify/input.ts';
import type { VerificationReport } from '../verify/report.ts';
import { verifyAttestation } from '../verify/verify.ts';
import { readCertificate } from '../x509/certificate.ts';
import { DerError } from '../x509/der.ts';
import { keyBinding } from './binding.ts';
import { raTlsOid, raTlsPayload } from './extensions.ts';

/** The attestation in a certificate (DER), as bytes, and the data that its quote must bind; null when it has none. */
export function certificateAttestation(
  certificate: Uint8Array,
): { readonly attestation: Buffer; readonly reportData: Buffer } | null {
  const { extensions, publicKey } = readCertificate(certificate);
  const attestation = raTlsPayload(extensions, raTlsOid.attestation);
  return attestation === null ? null : { attestation, reportData: keyBinding(publicKey) };
}

/**
 * Checks the attestation in the certificate of a TLS peer, which proved in the handshake that it has the key: that the
 * quote binds this key, and all else that {@link verifyAttestation} checks.
 *
 * @param certificate DER, as `getPeerCertificate(true).raw` gives it
 */
export async function verifyPeer(
  certificate: Uint8Array,
  trust: Trust,
  expected: Omit<Expectations, 'reportData'> = {},
): Promise<VerificationReport> {
  let found: ReturnType<typeof certificateAttestation>;
  try {
    found = certificateAttestation(certificate);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    return refused(error.message);
  }
  if (found === null) return refused('the certificate has no attestation');
  const { attestation, reportData } = found;
  return verifyAttestation({ attestation }, trust, { ...expected, reportData });
}

function refused(detail: string): VerificationReport {
  return {
    valid: false,
    simulated: true,
    checks: [{ name: 'format', ok: false, simulated: true, detail }],
    notChecked: [],
    claims: null,
  };
}
