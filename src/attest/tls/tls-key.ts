import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { AppKeys } from '../app-keys.ts';
import { deriveKey } from '../kdf.ts';
import { p256PrivateKey } from '../p256.ts';
import { publicKeyInfo } from '../x509/certificate.ts';
import { certificateFromPem, certificateLabel, privateKeyPem, toPem } from '../x509/pem.ts';
import { keyBinding } from './binding.ts';
import { type CertificateRequest, checkRequest, encodeRequest, signRequest } from './csr.ts';
import { issueLeaf } from './issue.ts';
import { checkNames, type TlsKey, type TlsKeyRequest, validity } from './request.ts';

/** Who signs the certificates of an app. */
export interface CertificateSigner {
  /** Whether it decides by the attestation in the request, so that every request must have one. */
  readonly needsAttestation: boolean;
  /**
   * @param request encoded and signed with its own key (see csr.ts)
   * @returns the chain, the new certificate first, as PEM
   */
  sign(request: Buffer, signature: Buffer): Promise<string[]>;
}

/** The app's own authority, for apps without a KMS; with `appId` it signs as one that a KMS made. */
export class LocalSigner implements CertificateSigner {
  readonly needsAttestation = false;
  readonly #key: KeyObject;
  readonly #certificate: Buffer;
  readonly #appInfo: () => Promise<Buffer>;
  readonly #appId: Buffer | null;

  /**
   * @param key of the authority
   * @param certificate its certificate, PEM
   * @param appInfo encoded app info, asked for when a request wants it
   * @param appId 20 bytes that go into every certificate
   */
  constructor(key: KeyObject, certificate: string, appInfo: () => Promise<Buffer>, appId: Buffer | null = null) {
    this.#key = key;
    this.#certificate = certificateFromPem(certificate);
    this.#appInfo = appInfo;
    this.#appId = appId;
  }

  async sign(encoded: Buffer, signature: Buffer): Promise<string[]> {
    const request = checkRequest(encoded, signature);
    const issuer = { key: this.#key, certificate: this.#certificate };
    const leaf = issueLeaf(request, issuer, {
      ...(this.#appId === null ? {} : { appId: this.#appId }),
      ...(request.withAppInfo ? { appInfo: await this.#appInfo() } : {}),
    });
    return [leaf, this.#certificate].map((certificate) => toPem(certificate, certificateLabel));
  }
}

export interface TlsKeyContext {
  readonly signer: CertificateSigner;
  /** A stripped attestation of 64 bytes of report data. */
  readonly attest: (reportData: Buffer) => Promise<Buffer>;
}

/** `GetTlsKey`: a new P-256 key and its certificate. @throws BerthError invalid_argument */
export function issueTlsKey(request: TlsKeyRequest, context: TlsKeyContext): Promise<TlsKey> {
  return certify(generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey, request, context);
}

/** The older `DeriveKey`: the P-256 key of a path, which is always the same, and a certificate. */
export function deriveTlsKey(
  keys: AppKeys,
  path: string,
  request: TlsKeyRequest,
  context: TlsKeyContext,
): Promise<TlsKey> {
  return certify(p256PrivateKey(deriveKey(keys.k256Key, [path])), request, context);
}

async function certify(key: KeyObject, request: TlsKeyRequest, { signer, attest }: TlsKeyContext): Promise<TlsKey> {
  checkNames(request);
  validity(request.notBefore, request.notAfter);
  const publicKey = publicKeyInfo(key);
  const encoded = encodeRequest({
    publicKey,
    subject: request.subject,
    altNames: request.altNames,
    serverAuth: request.usageServerAuth,
    clientAuth: request.usageClientAuth,
    withAttestation: request.usageRaTls,
    withAppInfo: request.withAppInfo,
    ...(request.notBefore === undefined ? {} : { notBefore: request.notBefore }),
    ...(request.notAfter ? { notAfter: request.notAfter } : {}),
    attestation: request.usageRaTls || signer.needsAttestation ? await attest(keyBinding(publicKey)) : Buffer.alloc(0),
  } satisfies CertificateRequest);
  const certificateChain = await signer.sign(encoded, signRequest(encoded, key));
  return { key: privateKeyPem(key), certificateChain };
}
