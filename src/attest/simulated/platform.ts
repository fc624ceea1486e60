import { randomBytes, sign } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { linkOnce, syncPath, writeFileAtomic } from '../../common/files.ts';
import { readIfThere } from '../../common/read-if-there.ts';
import { sha256 } from '../hash.ts';
import { deriveKey } from '../kdf.ts';
import { p256Scalar } from '../p256.ts';
import { enclaveReport, encodeSgxQuote, sgxSignedPart } from '../sgx-quote.ts';
import { encodeQuote, encodeSignedPart, type QuoteAuth, type TdReport } from '../tdx-quote.ts';
import { publicKeyInfo } from '../x509/certificate.ts';
import { certificateLabel, fromPem } from '../x509/pem.ts';
import {
  chain,
  type EnclaveIdentity,
  issueCertificates,
  quotingEnclaves,
  type SimulatedPki,
  simulatedKeys,
} from './pki.ts';

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
  readonly #qeAuthData = Buffer.alloc(32);
  readonly #pckChain: string;
  /** What the quoting enclaves say about the attestation key, made at the first quote of each kind. */
  readonly #vouched = new Map<'tdx' | 'sgx', Pick<QuoteAuth, 'qeReport' | 'qeReportSignature'>>();

  constructor(pki: SimulatedPki) {
    this.pki = pki;
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
    const state = readState(path) ?? (await createState(directory, path));
    const certificates = Object.fromEntries(
      Object.entries(state.certificates).map(([role, pem]) => [role, fromPem(pem, certificateLabel)[0]]),
    ) as SimulatedPki['certificates'];
    return new SimulatedPlatform({ keys: simulatedKeys(Buffer.from(state.seed, 'hex')), certificates });
  }

  /** DER of the root, which a verifier must be told to trust. */
  get root(): Buffer {
    return this.pki.certificates.root;
  }

  /** 32 bytes that are this machine's alone, for keys that it keeps for its apps. */
  machineSecret(): Buffer {
    return deriveKey(p256Scalar(this.pki.keys.pck), ['berth-simulated-machine']);
  }

  /** Signs a TD report. */
  quote(report: TdReport): Buffer {
    const signedPart = encodeSignedPart(report);
    return encodeQuote(signedPart, this.#auth('tdx', signedPart));
  }

  /** Signs a report of an enclave, `reportData` of 64 bytes: an SGX quote of version 3. */
  enclaveQuote(enclave: EnclaveIdentity, reportData: Buffer): Buffer {
    const signedPart = sgxSignedPart(enclaveReport(enclave, reportData));
    return encodeSgxQuote(signedPart, this.#auth('sgx', signedPart));
  }

  #auth(kind: 'tdx' | 'sgx', signedPart: Buffer): QuoteAuth {
    return {
      signature: sign('sha256', signedPart, { key: this.pki.keys.attestation, dsaEncoding: 'ieee-p1363' }),
      attestationKey: this.#attestationKey(),
      ...this.#vouchedFor(kind),
      qeAuthData: this.#qeAuthData,
      pckChain: this.#pckChain,
    };
  }

  /** The last 64 bytes of a P-256 SubjectPublicKeyInfo: x and y. */
  #attestationKey(): Buffer {
    return publicKeyInfo(this.pki.keys.attestation).subarray(-64);
  }

  #vouchedFor(kind: 'tdx' | 'sgx'): Pick<QuoteAuth, 'qeReport' | 'qeReportSignature'> {
    const vouched = this.#vouched.get(kind) ?? this.#vouch(quotingEnclaves[kind]);
    this.#vouched.set(kind, vouched);
    return vouched;
  }

  /** A quoting enclave's word for the attestation key, signed by the platform. */
  #vouch(enclave: EnclaveIdentity): Pick<QuoteAuth, 'qeReport' | 'qeReportSignature'> {
    const keyHash = sha256(this.#attestationKey(), this.#qeAuthData);
    const qeReport = enclaveReport(enclave, Buffer.concat([keyHash, Buffer.alloc(32)]));
    const key = { key: this.pki.keys.pck, dsaEncoding: 'ieee-p1363' } as const;
    return { qeReport, qeReportSignature: sign('sha256', qeReport, key) };
  }
}

function readState(path: string): State | null {
  const text = readIfThere(path);
  if (text === null) return null;
  const state = JSON.parse(text) as State;
  if (state.format !== FORMAT) throw new Error(`${STATE_FILE} has format ${state.format}, not ${FORMAT}`);
  return state;
}

/** @returns what the file holds then: of several who make it at once the first counts for all */
async function createState(directory: string, path: string): Promise<State> {
  const seed = randomBytes(32);
  const certificates = Object.fromEntries(
    Object.entries(issueCertificates(simulatedKeys(seed))).map(([role, certificate]) => [role, chain([certificate])]),
  ) as State['certificates'];
  const state: State = { format: FORMAT, seed: seed.toString('hex'), certificates };
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const whole = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    await writeFileAtomic(whole, `${JSON.stringify(state, null, 2)}\n`, 0o600);
    await linkOnce(whole, path);
  } finally {
    await rm(whole, { force: true });
  }
  await syncPath(directory);
  return readState(path) ?? state;
}
