import { randomBytes, sign } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../../common/files.ts';
import { sha256 } from '../hash.ts';
import { encodeQuote, encodeSignedPart, type TdReport } from '../tdx-quote.ts';
import { publicKeyInfo } from '../x509/certificate.ts';
import { certificateLabel, fromPem } from '../x509/pem.ts';
import { chain, issueCertificates, quotingEnclave, type SimulatedPki, simulatedKeys } from './pki.ts';

const FORMAT = 1;
const STATE_FILE = 'simulated-tee.json';

/** Content of the state file: the seed of all keys (hex, secret) and the certificates (PEM). */
interface State {
  readonly format: typeof FORMAT;
  readonly seed: string;
  readonly certificates: Readonly<Record<keyof SimulatedPki['certificates'], string>>;
}

/**
 * A machine that can sign TDX quotes, without being one: it holds what on hardware the quoting enclave and Intel hold.
 * Whoever has its keys can say anything, so they stay with whoever starts the VMs.
 */
export class SimulatedPlatform {
  readonly pki: SimulatedPki;
  readonly #attestationKey: Buffer;
  readonly #qeReport: Buffer;
  readonly #qeReportSignature: Buffer;
  readonly #qeAuthData = Buffer.alloc(32);
  readonly #pckChain: string;

  constructor(pki: SimulatedPki) {
    this.pki = pki;
    // The last 64 bytes of a P-256 SubjectPublicKeyInfo are x and y.
    this.#attestationKey = publicKeyInfo(pki.keys.attestation).subarray(-64);
    this.#qeReport = qeReport(sha256(this.#attestationKey, this.#qeAuthData));
    this.#qeReportSignature = sign('sha256', this.#qeReport, { key: pki.keys.pck, dsaEncoding: 'ieee-p1363' });
    const { pck, root } = pki.certificates;
    this.#pckChain = chain([pck, pki.certificates['pck-ca'], root]);
  }

  /** A platform that nothing keeps, for tests and throw-away laptops. */
  static create(seed: Uint8Array = randomBytes(32)): SimulatedPlatform {
    const keys = simulatedKeys(seed);
    return new SimulatedPlatform({ keys, certificates: issueCertificates(keys) });
  }

  /** The platform of an installation: made at the first call, in a file that only its owner reads. */
  static async open(directory: string): Promise<SimulatedPlatform> {
    const path = join(directory, STATE_FILE);
    const state = (await readState(path)) ?? (await createState(directory, path));
    const certificates = Object.fromEntries(
      Object.entries(state.certificates).map(([role, pem]) => [role, fromPem(pem, certificateLabel)[0]]),
    ) as SimulatedPki['certificates'];
    return new SimulatedPlatform({ keys: simulatedKeys(Buffer.from(state.seed, 'hex')), certificates });
  }

  /** DER of the root, which a verifier must be told to trust. */
  get root(): Buffer {
    return this.pki.certificates.root;
  }

  /** Signs a TD report. */
  quote(report: TdReport): Buffer {
    const signedPart = encodeSignedPart(report);
    return encodeQuote(signedPart, {
      signature: sign('sha256', signedPart, { key: this.pki.keys.attestation, dsaEncoding: 'ieee-p1363' }),
      attestationKey: this.#attestationKey,
      qeReport: this.#qeReport,
      qeReportSignature: this.#qeReportSignature,
      qeAuthData: this.#qeAuthData,
      pckChain: this.#pckChain,
    });
  }
}

async function readState(path: string): Promise<State | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  const state = JSON.parse(text) as State;
  if (state.format !== FORMAT) throw new Error(`${STATE_FILE} has format ${state.format}, not ${FORMAT}`);
  return state;
}

async function createState(directory: string, path: string): Promise<State> {
  const seed = randomBytes(32);
  const certificates = Object.fromEntries(
    Object.entries(issueCertificates(simulatedKeys(seed))).map(([role, certificate]) => [role, chain([certificate])]),
  ) as State['certificates'];
  const state: State = { format: FORMAT, seed: seed.toString('hex'), certificates };
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeFileAtomic(path, `${JSON.stringify(state, null, 2)}\n`, 0o600);
  return state;
}

/** Report of an SGX enclave (384 bytes) that is the quoting enclave, with `keyHash` as its report data. */
function qeReport(keyHash: Buffer): Buffer {
  const report = Buffer.alloc(384);
  // Attributes: initialised, 64 bit, not a debug enclave.
  report[48] = 0x15;
  report.set(quotingEnclave.mrEnclave, 64);
  report.set(quotingEnclave.mrSigner, 128);
  report.writeUInt16LE(quotingEnclave.productId, 256);
  report.writeUInt16LE(quotingEnclave.securityVersion, 258);
  report.set(keyHash, 320);
  return report;
}
