import { readCertificate } from '../attest/x509/certificate.ts';

/** What identifies a KMS to apps, in hex: the SubjectPublicKeyInfo of its root certificate (DER). */
export function rootId(caCertificate: Buffer): string {
  return readCertificate(caCertificate).publicKey.toString('hex');
}
