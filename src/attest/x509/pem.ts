import type { KeyObject } from 'node:crypto';

/** PEM text of DER, one line of 64 characters after another, with a newline at the end. */
export function toPem(der: Uint8Array, label: string): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** The DER of every block of a label in a text, in order. Text around the blocks is passed over. */
export function fromPem(text: string, label: string): Buffer[] {
  const pattern = new RegExp(`-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]+)-----END ${label}-----`, 'g');
  return Array.from(text.matchAll(pattern), ([, body = '']) => Buffer.from(body, 'base64'));
}

export const certificateLabel = 'CERTIFICATE';

/** The one certificate of a text; throws when there is none. */
export function certificateFromPem(text: string): Buffer {
  const [der] = fromPem(text, certificateLabel);
  if (der === undefined) throw new RangeError('there is no PEM certificate');
  return der;
}

/** PEM (PKCS#8) of a private key. */
export function privateKeyPem(key: KeyObject): string {
  return key.export({ format: 'pem', type: 'pkcs8' }).toString();
}
