import type { Extension } from '../x509/certificate.ts';
import * as der from '../x509/der.ts';

/** The certificate extensions of RA-TLS certificates. */
const base = '1.3.6.1.4.1.62397.1';
export const raTlsOid = {
  /** 20 bytes, put in by the KMS only. */
  appId: `${base}.3`,
  /** Text: what the certificate is for. */
  usage: `${base}.4`,
  /** A versioned attestation of the key, stripped. */
  attestation: `${base}.8`,
  /** MessagePack. */
  appInfo: `${base}.9`,
} as const;

/** What a certificate is for. */
export const usage = { app: 'app:custom', appAuthority: 'app:ca', kms: 'kms:rpc' } as const;

/** An extension whose payload is wrapped once more in an OCTET STRING. */
export function raTlsExtension(oid: string, payload: Uint8Array | string): Extension {
  return { oid, value: der.octetString(Buffer.from(payload as Uint8Array)) };
}

/** The payload of an extension, or null when the certificate has it not. Throws DerError when it is not wrapped. */
export function raTlsPayload(extensions: ReadonlyMap<string, Buffer>, oid: string): Buffer | null {
  const value = extensions.get(oid);
  return value === undefined ? null : der.DerReader.single(value, der.tag.octetString).content;
}
