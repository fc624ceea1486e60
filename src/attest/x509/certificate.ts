import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import * as der from './der.ts';

const ecdsaWithSha256 = der.sequence(der.oid('1.2.840.10045.4.3.2'));

/** A name of at most an organisation and a common name. */
export interface Name {
  readonly organization?: string;
  readonly commonName?: string;
}

export interface Extension {
  readonly oid: string;
  readonly critical?: boolean;
  /** DER of the extension's own value. */
  readonly value: Buffer;
}

export interface CertificateFields {
  readonly subject: Name;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly extensions: readonly Extension[];
  /** Big-endian; default 16 random bytes. */
  readonly serial?: Uint8Array;
}

/** Who signs: a P-256 key and the certificate it belongs to. Without a certificate the new one is self-signed. */
export interface Issuer {
  readonly key: KeyObject;
  /** DER. */
  readonly certificate?: Buffer;
}

/** An X.509 version 3 certificate signed with ECDSA P-256 and SHA-256, as DER. */
export function createCertificate(fields: CertificateFields, issuer: Issuer): Buffer {
  const parent = issuer.certificate === undefined ? null : readCertificate(issuer.certificate);
  const identifiers: Extension[] = [
    { oid: '2.5.29.14', value: der.octetString(keyIdentifier(fields.publicKey)) },
    {
      oid: '2.5.29.35',
      value: der.sequence(der.contextPrimitive(0, keyIdentifier(parent?.publicKey ?? fields.publicKey))),
    },
  ];
  const body = der.sequence(
    der.context(0, der.integer(2)),
    der.integer(fields.serial ?? randomSerial()),
    ecdsaWithSha256,
    parent?.subject ?? encodeName(fields.subject),
    der.sequence(der.time(fields.notBefore), der.time(fields.notAfter)),
    encodeName(fields.subject),
    fields.publicKey,
    der.context(3, der.sequence(...[...fields.extensions, ...identifiers].map(encodeExtension))),
  );
  return signed(body, issuer.key);
}

/** A list of revoked certificates (CRL, version 2) with none on it, as DER. */
export function createEmptyCrl(
  issuer: Required<Issuer>,
  dates: { readonly thisUpdate: Date; readonly nextUpdate: Date },
): Buffer {
  const { subject, publicKey } = readCertificate(issuer.certificate);
  const extensions = [
    { oid: '2.5.29.35', value: der.sequence(der.contextPrimitive(0, keyIdentifier(publicKey))) },
    { oid: '2.5.29.20', value: der.integer(1) },
  ];
  const body = der.sequence(
    der.integer(1),
    ecdsaWithSha256,
    subject,
    der.time(dates.thisUpdate),
    der.time(dates.nextUpdate),
    der.context(0, der.sequence(...extensions.map(encodeExtension))),
  );
  return signed(body, issuer.key);
}

/** What a certificate says, as far as Berth looks at it itself. Signatures and dates are OpenSSL's to check. */
export interface CertificateContent {
  /** DER of the subject, to be used as an issuer. */
  readonly subject: Buffer;
  readonly issuer: Buffer;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Buffer;
  /** DER values by object identifier. */
  readonly extensions: ReadonlyMap<string, Buffer>;
}

/** Reads a certificate from untrusted DER. Throws DerError. */
export function readCertificate(bytes: Uint8Array): CertificateContent {
  const certificate = new der.DerReader(der.DerReader.single(bytes, der.tag.sequence).content);
  const body = new der.DerReader(certificate.next(der.tag.sequence).content);
  certificate.next(der.tag.sequence);
  certificate.next(der.tag.bitString);
  certificate.end();
  body.optional(0xa0);
  body.next(der.tag.integer);
  body.next(der.tag.sequence);
  const issuer = body.next(der.tag.sequence).raw;
  body.next(der.tag.sequence);
  const subject = body.next(der.tag.sequence).raw;
  const publicKey = body.next(der.tag.sequence).raw;
  body.optional(0x81);
  body.optional(0x82);
  const extensions = new Map<string, Buffer>();
  const list = body.optional(0xa3);
  body.end();
  if (list !== null) readExtensions(list.content, extensions);
  return { subject, issuer, publicKey, extensions };
}

function readExtensions(content: Buffer, into: Map<string, Buffer>): void {
  const list = new der.DerReader(der.DerReader.single(content, der.tag.sequence).content);
  while (!list.done) {
    const extension = new der.DerReader(list.next(der.tag.sequence).content);
    const name = der.readOid(extension.next(der.tag.oid).content);
    extension.optional(der.tag.boolean);
    const value = extension.next(der.tag.octetString).content;
    extension.end();
    // RFC 5280: a certificate must not hold one extension twice. Which of two would count is a way to deceive.
    if (into.has(name)) throw new der.DerError(`the extension ${name} is there twice`);
    into.set(name, value);
  }
}

/** basicConstraints of an authority; `pathLength` authorities may follow it. */
export function certificateAuthority(pathLength: number): Extension[] {
  return [
    { oid: '2.5.29.19', critical: true, value: der.sequence(der.boolean(true), der.integer(pathLength)) },
    // keyCertSign and cRLSign.
    { oid: '2.5.29.15', critical: true, value: der.bitString(Buffer.of(0x06), 1) },
  ];
}

/** keyUsage digitalSignature. */
export function digitalSignature(): Extension {
  return { oid: '2.5.29.15', critical: true, value: der.bitString(Buffer.of(0x80), 7) };
}

/** DER SubjectPublicKeyInfo of a key. */
export function publicKeyInfo(key: KeyObject): Buffer {
  const publicKey = key.type === 'public' ? key : createPublicKey(key);
  return publicKey.export({ format: 'der', type: 'spki' });
}

function encodeName({ organization, commonName }: Name): Buffer {
  const parts: [string, string | undefined][] = [
    ['2.5.4.10', organization],
    ['2.5.4.3', commonName],
  ];
  return der.sequence(
    ...parts.flatMap(([name, text]) =>
      text === undefined ? [] : [der.setOf(der.sequence(der.oid(name), der.utf8String(text)))],
    ),
  );
}

function encodeExtension({ oid, critical, value }: Extension): Buffer {
  return der.sequence(der.oid(oid), ...(critical ? [der.boolean(true)] : []), der.octetString(value));
}

function signed(body: Buffer, key: KeyObject): Buffer {
  return der.sequence(body, ecdsaWithSha256, der.bitString(sign('sha256', body, key)));
}

/** SHA-1 of the subject's public key, the usual identifier (RFC 5280, 4.2.1.2); it is a name and proves nothing. */
function keyIdentifier(publicKeyInfoDer: Buffer): Buffer {
  const info = new der.DerReader(der.DerReader.single(publicKeyInfoDer, der.tag.sequence).content);
  info.next(der.tag.sequence);
  return createHash('sha1').update(info.next(der.tag.bitString).content.subarray(1)).digest();
}

function randomSerial(): Buffer {
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  return serial;
}
