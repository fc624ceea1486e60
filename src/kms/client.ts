import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { request as httpsRequest } from 'node:https';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import type { AppKeys } from '../attest/app-keys.ts';
import { keyBinding } from '../attest/tls/binding.ts';
import { raTlsOid, raTlsPayload, usage } from '../attest/tls/extensions.ts';
import { issueLeaf } from '../attest/tls/issue.ts';
import type { CertificateSigner } from '../attest/tls/tls-key.ts';
import { publicKeyInfo, readCertificate } from '../attest/x509/certificate.ts';
import { certificateFromPem, certificateLabel, privateKeyPem, toPem } from '../attest/x509/pem.ts';
import { Reply } from './reply.ts';
import { rootId } from './root-id.ts';

/** The guest's side of a KMS. */
export interface KmsClientOptions {
  /** Such as `https://kms.example:8000`. */
  readonly url: string;
  /** Hex that the KMS's root must have; empty when any KMS will do. */
  readonly pinnedRoot: string;
  /** A stripped attestation of 64 bytes of report data. */
  readonly attest: (reportData: Buffer) => Promise<Buffer>;
  readonly vmConfig: string;
}

const TIMEOUT_MS = 30_000;
const MAX_REPLY_BYTES = 4 * 1024 * 1024;
const API_VERSION = 2;

/**
 * Gets the keys of this VM's app.
 *
 * @throws Error when the KMS is another than the pinned one, or refuses
 */
export async function requestAppKeys({ url, pinnedRoot, attest, vmConfig }: KmsClientOptions): Promise<AppKeys> {
  // Nothing is known of the KMS yet: what it says is believed only after its certificate was checked against it.
  const seen: { certificate?: Buffer } = {};
  const temp = new Reply(
    await call(
      url,
      'GetTempCaCert',
      {},
      { rejectUnauthorized: false, onCertificate: (raw) => (seen.certificate = raw) },
    ),
  );
  const caCert = temp.text('ca_cert');
  const [tempCaCert, tempCaKey] = [temp.text('temp_ca_cert'), temp.text('temp_ca_key')];
  const root = certificateFromPem(caCert);
  if (pinnedRoot !== '' && rootId(root) !== pinnedRoot.toLowerCase()) throw new Error('the KMS has another root key');
  if (seen.certificate === undefined || !isKmsCertificate(seen.certificate, root))
    throw new Error('the server is not the KMS that it says it is');
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const publicKey = publicKeyInfo(privateKey);
  const certificate = issueLeaf(
    {
      publicKey,
      subject: 'RA-TLS TEMP Cert',
      altNames: [],
      serverAuth: false,
      clientAuth: true,
      withAttestation: true,
      withAppInfo: false,
      attestation: await attest(keyBinding(publicKey)),
    },
    { key: createPrivateKey(tempCaKey), certificate: certificateFromPem(tempCaCert) },
  );
  const keys = new Reply(
    await call(
      url,
      'GetAppKey',
      { api_version: API_VERSION, vm_config: vmConfig },
      {
        ...trusting(root),
        key: privateKeyPem(privateKey),
        cert: toPem(certificate, certificateLabel),
      },
    ),
  );
  return {
    diskCryptKey: keys.bytes('disk_crypt_key'),
    envCryptKey: keys.bytes('env_crypt_key'),
    k256Key: keys.bytes('k256_key'),
    k256Signature: keys.bytes('k256_signature'),
    gatewayAppId: keys.text('gateway_app_id'),
    caCert,
    keyProvider: { name: 'kms', url, id: rootId(root), tempCaCert, tempCaKey },
  };
}

/** Has certificates signed by the KMS. */
export class KmsSigner implements CertificateSigner {
  readonly needsAttestation = true;
  readonly #url: string;
  readonly #root: Buffer;
  readonly #vmConfig: string;

  /** @param root PEM of the KMS's root, as the app keys have it */
  constructor(url: string, root: string, vmConfig: string) {
    this.#url = url;
    this.#root = certificateFromPem(root);
    this.#vmConfig = vmConfig;
  }

  async sign(request: Buffer, signature: Buffer): Promise<string[]> {
    const body = {
      api_version: API_VERSION,
      csr: request.toString('hex'),
      signature: signature.toString('hex'),
      vm_config: this.#vmConfig,
    };
    return new Reply(await call(this.#url, 'SignCert', body, trusting(this.#root))).texts('certificate_chain');
  }
}

interface CallOptions {
  readonly rejectUnauthorized?: boolean;
  readonly ca?: string;
  readonly checkServerIdentity?: (host: string, certificate: PeerCertificate) => Error | undefined;
  readonly key?: string;
  readonly cert?: string;
  readonly onCertificate?: (raw: Buffer) => void;
}

/** A KMS is known by its root and by what its certificate is for; its name may be any. */
function trusting(root: Buffer): CallOptions {
  return {
    ca: toPem(root, certificateLabel),
    checkServerIdentity: (_, { raw }) =>
      isKmsCertificate(raw, root) ? undefined : new Error('the certificate is not a KMS server’s'),
  };
}

function isKmsCertificate(certificate: Buffer, root: Buffer): boolean {
  const [server, authority] = [new X509Certificate(certificate), new X509Certificate(root)];
  if (!server.checkIssued(authority) || !server.verify(authority.publicKey)) return false;
  return raTlsPayload(readCertificate(certificate).extensions, raTlsOid.usage)?.toString() === usage.kms;
}

/** Calls a method with a JSON body. */
async function call(
  url: string,
  method: string,
  body: object,
  { onCertificate, ...tls }: CallOptions,
): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const content = JSON.stringify(body);
  const request = httpsRequest(
    `${url.replace(/\/+$/, '')}/prpc/${method}?json`,
    {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(content) },
      agent: false,
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...tls,
    },
    (response) => {
      const certificate = (response.socket as TLSSocket).getPeerX509Certificate();
      if (certificate) onCertificate?.(certificate.raw);
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > MAX_REPLY_BYTES) response.destroy(new Error('the reply of the KMS is too long'));
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () => {
        const reply = Buffer.concat(chunks).toString();
        if (response.statusCode === 200) resolve(reply);
        else reject(new Error(`the KMS refused ${method}: ${response.statusCode} ${reply.slice(0, 500)}`));
      });
    },
  );
  request.on('error', reject);
  request.end(content);
  return JSON.parse(await promise);
}
