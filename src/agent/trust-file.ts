import type { Collateral } from '../attest/simulated/collateral.ts';
import type { Trust } from '../attest/verify/input.ts';
import { certificateFromPem } from '../attest/x509/pem.ts';

/**
 * Whom to trust, as a JSON file: what laptop mode writes for verifiers, and what `berth verify --trust` reads. Root and
 * collateral are for TDX quotes, the attestation key for those of a TPM.
 */
interface TrustFile {
  /** PEM. */
  readonly root?: string;
  readonly collateral?: Collateral;
  /** Hex of a SubjectPublicKeyInfo. */
  readonly attestation_key?: string;
}

export function serializeTrust(root: string, collateral: Collateral): string {
  return `${JSON.stringify({ root, collateral } satisfies TrustFile, null, 2)}\n`;
}

/** Throws an Error that says what is wrong with the file. */
export function parseTrust(text: string): Trust {
  const { root, collateral, attestation_key: key } = JSON.parse(text) as Record<keyof TrustFile, unknown>;
  if (root === undefined && key === undefined) throw new Error('the trust file has neither root nor attestation_key');
  if (root !== undefined && typeof root !== 'string') throw new Error('root of the trust file is not PEM');
  if (root !== undefined && (typeof collateral !== 'object' || collateral === null))
    throw new Error('the trust file has no collateral');
  if (key !== undefined && (typeof key !== 'string' || !/^(?:[0-9a-f]{2})+$/i.test(key)))
    throw new Error('attestation_key of the trust file is not hex');
  return {
    ...(root === undefined ? {} : { root: certificateFromPem(root), collateral: collateral as Collateral }),
    ...(key === undefined ? {} : { attestationKey: Buffer.from(key, 'hex') }),
  };
}
