import { isIP } from 'node:net';
import { createCertificate, digitalSignature, type Extension, type Issuer } from '../x509/certificate.ts';
import * as der from '../x509/der.ts';
import type { CertificateRequest } from './csr.ts';
import { raTlsExtension, raTlsOid, usage } from './extensions.ts';
import { validity } from './request.ts';

export interface LeafOptions {
  /** 20 bytes, when the authority knows the app by more than its own word. */
  readonly appId?: Buffer;
  /** Default `app:custom`. */
  readonly usage?: string;
  /** MessagePack, when the request asks for it. */
  readonly appInfo?: Buffer;
}

/** The certificate of a request that was checked, as DER. */
export function issueLeaf(
  request: CertificateRequest,
  issuer: Required<Issuer>,
  { appId, usage: purpose = usage.app, appInfo }: LeafOptions = {},
): Buffer {
  const { subject, organization, altNames, publicKey } = request;
  const extensions: Extension[] = [
    digitalSignature(),
    ...subjectAltName(altNames),
    ...extendedKeyUsage(request),
    ...(appId ? [raTlsExtension(raTlsOid.appId, appId)] : []),
    raTlsExtension(raTlsOid.usage, purpose),
    ...(request.withAttestation ? [raTlsExtension(raTlsOid.attestation, request.attestation)] : []),
    ...(request.withAppInfo && appInfo ? [raTlsExtension(raTlsOid.appInfo, appInfo)] : []),
  ];
  const name = { commonName: subject, ...(organization === undefined ? {} : { organization }) };
  const dates = validity(request.notBefore, request.notAfter);
  return createCertificate({ subject: name, publicKey, ...dates, extensions }, issuer);
}

function subjectAltName(names: readonly string[]): Extension[] {
  if (names.length === 0) return [];
  const encoded = names.map((name) =>
    isIP(name) === 0 ? der.contextPrimitive(2, Buffer.from(name)) : der.contextPrimitive(7, addressBytes(name)),
  );
  return [{ oid: '2.5.29.17', value: der.sequence(...encoded) }];
}

function extendedKeyUsage({ serverAuth, clientAuth }: CertificateRequest): Extension[] {
  const purposes = [...(serverAuth ? ['1.3.6.1.5.5.7.3.1'] : []), ...(clientAuth ? ['1.3.6.1.5.5.7.3.2'] : [])];
  return purposes.length === 0 ? [] : [{ oid: '2.5.29.37', value: der.sequence(...purposes.map(der.oid)) }];
}

/** The 4 or 16 bytes of an IP address. */
function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = withoutEmbeddedIpv4(address.split('%')[0]!).split('::');
  const groups = (text: string): number[] => (text === '' ? [] : text.split(':').map((group) => parseInt(group, 16)));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

/** `::ffff:192.0.2.1` as `::ffff:c000:201`. */
function withoutEmbeddedIpv4(address: string): string {
  return address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.slice(0, 4).map(Number);
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
}
