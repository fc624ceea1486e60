import type { Rtmrs } from '../rtmr.ts';
import type { AttestedClaims } from './report.ts';

/** What a platform's signature covers. */
export interface PlatformEvidence {
  readonly rtmrs: Rtmrs;
  /** 64 bytes. */
  readonly reportData: Buffer;
  readonly mrtd: Buffer | null;
  readonly mrConfigId: Buffer | null;
  readonly claims: Omit<AttestedClaims, 'appId' | 'composeHash' | 'instanceId' | 'osImageHash' | 'keyProvider'>;
}
