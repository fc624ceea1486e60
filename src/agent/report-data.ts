import { createHash } from 'node:crypto';
import { padReportData } from '../attest/attest.ts';
import { REPORT_DATA_BYTES } from '../attest/quoter.ts';
import { BerthError } from '../common/errors.ts';

/** Hashes of `TdxQuote`: names on the wire, and OpenSSL's. */
const hashes = new Map([
  ['sha256', 'sha256'],
  ['sha384', 'sha384'],
  ['sha512', 'sha512'],
  ['sha3-256', 'sha3-256'],
  ['sha3-384', 'sha3-384'],
  ['sha3-512', 'sha3-512'],
  ['keccak256', 'keccak-256'],
  ['keccak384', 'keccak-384'],
  ['keccak512', 'keccak-512'],
]);

export interface HashedReportData {
  /** 64 bytes. */
  readonly reportData: Buffer;
  /** What the reply repeats: the algorithm, and the prefix that was used. */
  readonly algorithm: string;
  readonly prefix: string;
}

/**
 * The report data of `TdxQuote`: H(prefix ‖ ":" ‖ data), padded with zeros. `raw` takes 64 bytes as they are.
 * @param algorithm empty means sha512
 * @param prefix empty means `app-data`
 * @throws BerthError invalid_argument
 */
export function hashReportData(data: Uint8Array, algorithm: string, prefix: string): HashedReportData {
  const name = algorithm === '' ? 'sha512' : algorithm;
  if (name === 'raw') {
    if (data.length !== REPORT_DATA_BYTES) throw refusal(`Report data must have ${REPORT_DATA_BYTES} bytes when raw`);
    return { reportData: Buffer.from(data), algorithm: name, prefix: '' };
  }
  const used = prefix === '' ? 'app-data' : prefix;
  const hash = hashes.get(name);
  if (hash === undefined) throw refusal('Unsupported hash algorithm');
  const digest = createHash(hash).update(`${used}:`).update(data).digest();
  return { reportData: padReportData(digest), algorithm: name, prefix: used };
}

function refusal(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason });
}
