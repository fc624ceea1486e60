import { sign } from 'node:crypto';
import { createEmptyCrl } from '../x509/certificate.ts';
import { chain, FMSPC, PCE_ID, quotingEnclaves } from './pki.ts';
import type { SimulatedPlatform } from './platform.ts';

/** What a verifier needs beside a quote, in the names of DCAP libraries. Bytes are hex. */
export interface Collateral {
  readonly pck_crl_issuer_chain: string;
  readonly root_ca_crl: string;
  readonly pck_crl: string;
  readonly tcb_info_issuer_chain: string;
  readonly tcb_info: string;
  readonly tcb_info_signature: string;
  readonly qe_identity_issuer_chain: string;
  readonly qe_identity: string;
  readonly qe_identity_signature: string;
}

const DAY_MS = 24 * 60 * 60 * 1000;
/** How long what is issued stays valid. It is issued anew whenever it is asked for. */
const VALIDITY_DAYS = 30;

/**
 * Signs the collateral of a simulated platform: every level is up to date, nothing is revoked.
 *
 * @param kind quotes of TDs, or of enclaves
 */
export function issueCollateral(
  platform: SimulatedPlatform,
  now: Date = new Date(),
  kind: 'tdx' | 'sgx' = 'tdx',
): Collateral {
  const { keys, certificates } = platform.pki;
  // A verifier's clock may be behind.
  const thisUpdate = new Date(now.getTime() - DAY_MS);
  const nextUpdate = new Date(now.getTime() + VALIDITY_DAYS * DAY_MS);
  const dates = { issueDate: seconds(thisUpdate), nextUpdate: seconds(nextUpdate) };
  const tcbInfo = JSON.stringify({ ...dates, ...tcbInfoContent, id: kind === 'tdx' ? 'TDX' : 'SGX' });
  const qeIdentity = JSON.stringify({ ...dates, ...qeIdentityContent(kind) });
  const signer = chain([certificates['tcb-signing'], certificates.root]);
  const signature = (text: string): string =>
    sign('sha256', Buffer.from(text), { key: keys['tcb-signing'], dsaEncoding: 'ieee-p1363' }).toString('hex');
  const crl = (role: 'root' | 'pck-ca'): string =>
    createEmptyCrl({ key: keys[role], certificate: certificates[role] }, { thisUpdate, nextUpdate }).toString('hex');
  return {
    pck_crl_issuer_chain: chain([certificates['pck-ca'], certificates.root]),
    root_ca_crl: crl('root'),
    pck_crl: crl('pck-ca'),
    tcb_info_issuer_chain: signer,
    tcb_info: tcbInfo,
    tcb_info_signature: signature(tcbInfo),
    qe_identity_issuer_chain: signer,
    qe_identity: qeIdentity,
    qe_identity_signature: signature(qeIdentity),
  };
}

const level = { tcbDate: '2020-01-01T00:00:00Z', tcbStatus: 'UpToDate' };
const zeroComponents = Array.from({ length: 16 }, () => ({ svn: 0 }));

const tcbInfoContent = {
  version: 3,
  fmspc: FMSPC,
  pceId: PCE_ID,
  tcbType: 0,
  tcbEvaluationDataNumber: 1,
  tdxModule: { mrsigner: '00'.repeat(48), attributes: '00'.repeat(8), attributesMask: 'ff'.repeat(8) },
  tcbLevels: [{ tcb: { sgxtcbcomponents: zeroComponents, pcesvn: 0, tdxtcbcomponents: zeroComponents }, ...level }],
};

function qeIdentityContent(kind: 'tdx' | 'sgx'): object {
  const { mrSigner, productId, securityVersion } = quotingEnclaves[kind];
  return {
    id: kind === 'tdx' ? 'TD_QE' : 'QE',
    version: 2,
    tcbEvaluationDataNumber: 1,
    miscselect: '00000000',
    miscselectMask: 'FFFFFFFF',
    attributes: '15000000000000000000000000000000',
    attributesMask: 'FBFFFFFFFFFFFFFF0000000000000000',
    mrsigner: mrSigner.toString('hex').toUpperCase(),
    isvprodid: productId,
    tcbLevels: [{ tcb: { isvsvn: securityVersion }, ...level }],
  };
}

function seconds(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}
