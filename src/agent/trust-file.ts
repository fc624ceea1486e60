import type { Collateral } from '../attest/simulated/collateral.ts';
import type { Trust } from '../attest/verify/input.ts';
import { certificateFromPem } from '../attest/x509/pem.ts';

/** Whom to trust, as a JSON file: what laptop mode writes for verifiers, and what `berth verify --trust` reads. */
interface TrustFile {
  /** PEM. */
  readonly root: string;
  readonly collateral: Collateral;
}

export function serializeTrust(root: string, collateral: Collateral): string {
  return `${JSON.stringify({ root, collateral } satisfies TrustFile, null, 2)}\n`;
}

/** Throws an Error that says what is wrong with the file. */
export function parseTrust(text: string): Trust {
  const { root, collateral } = JSON.parse(text) as Partial<TrustFile>;
  if (typeof root !== 'string') throw new Error('the trust file has no root');
  if (typeof collateral !== 'object') throw new Error('the trust file has no collateral');
  return { root: certificateFromPem(root), collateral };
}
