import { sha256 } from '../attest/hash.ts';
import { mrSystem } from '../attest/measurements.ts';
import { encodeAppInfo } from '../attest/tls/app-info.ts';
import type { AttestedClaims } from '../attest/verify/report.ts';

/** The app info that goes into a certificate, from an attestation that was verified. */
export function appInfoOf(claims: AttestedClaims): Buffer {
  const bytes = (hex: string | null | undefined): Buffer => Buffer.from(hex ?? '', 'hex');
  const provider = claims.keyProvider;
  const rtmrs = [bytes(claims.rtmr0), bytes(claims.rtmr1), bytes(claims.rtmr2), bytes(claims.rtmr3)] as const;
  return encodeAppInfo({
    appId: bytes(claims.appId),
    composeHash: bytes(claims.composeHash),
    instanceId: bytes(claims.instanceId),
    deviceId: sha256(''),
    mrSystem: mrSystem({ mrtd: bytes(claims.mrtd), rtmrs }, provider === null ? null : Buffer.from(provider)),
    mrAggregated: bytes(claims.mrAggregated),
    osImageHash: bytes(claims.osImageHash),
    keyProviderInfo: provider ?? '',
  });
}
