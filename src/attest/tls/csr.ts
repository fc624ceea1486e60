import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { BerthError } from '../../common/errors.ts';
import { FormatError } from '../byte-reader.ts';
import { MAX_ATTESTATION_BYTES } from '../limits.ts';
import { ScaleReader, ScaleWriter } from '../scale.ts';
import { checkNames, validity } from './request.ts';

/** What a key asks an authority to sign: the certificate request of version 2, in SCALE. */
export interface CertificateRequest {
  /** SubjectPublicKeyInfo of a P-256 key, DER. */
  readonly publicKey: Buffer;
  readonly organization?: string;
  readonly subject: string;
  readonly altNames: readonly string[];
  readonly serverAuth: boolean;
  readonly clientAuth: boolean;
  /** Put the attestation into the certificate. */
  readonly withAttestation: boolean;
  readonly withAppInfo: boolean;
  /** Seconds since 1970. */
  readonly notBefore?: number;
  readonly notAfter?: number;
  /** A versioned attestation whose report data binds the key. */
  readonly attestation: Buffer;
}

/** Keeps a signature that was made for something else from passing for one over a request. */
const CONFIRM = 'please sign cert:';
const MAX_REQUEST_BYTES = MAX_ATTESTATION_BYTES + 128 * 1024;
const MAX_ALT_NAMES = 256;

export function encodeRequest(request: CertificateRequest): Buffer {
  const writer = new ScaleWriter();
  return writer
    .text(CONFIRM)
    .bytes(request.publicKey)
    .optional(request.organization, (text) => writer.text(text))
    .text(request.subject)
    .list(request.altNames, (name) => writer.text(name))
    .boolean(request.serverAuth)
    .boolean(request.clientAuth)
    .boolean(request.withAttestation)
    .boolean(request.withAppInfo)
    .optional(request.notBefore, (seconds) => writer.u64(seconds))
    .optional(request.notAfter, (seconds) => writer.u64(seconds))
    .raw(request.attestation)
    .encode();
}

/** Reads a request from untrusted bytes. Throws {@link FormatError}. */
export function decodeRequest(bytes: Uint8Array): CertificateRequest {
  if (bytes.length > MAX_REQUEST_BYTES) throw new FormatError('the request is too long');
  const reader = new ScaleReader(bytes);
  if (reader.text() !== CONFIRM) throw new FormatError('the request does not ask for a certificate');
  const publicKey = reader.lengthAndBytes();
  const organization = reader.optional(() => reader.text());
  const subject = reader.text();
  const altNames = reader.list({ least: 1, most: MAX_ALT_NAMES }, () => reader.text());
  const [serverAuth, clientAuth] = [reader.boolean(), reader.boolean()];
  const [withAttestation, withAppInfo] = [reader.boolean(), reader.boolean()];
  const notBefore = reader.optional(() => Number(reader.u64le()));
  const notAfter = reader.optional(() => Number(reader.u64le()));
  return {
    publicKey,
    ...(organization === undefined ? {} : { organization }),
    subject,
    altNames,
    serverAuth,
    clientAuth,
    withAttestation,
    withAppInfo,
    ...(notBefore === undefined ? {} : { notBefore }),
    ...(notAfter === undefined ? {} : { notAfter }),
    attestation: reader.rest(),
  };
}

/** Signs an encoded request with the key it is about: DER of ECDSA with SHA-256. */
export function signRequest(encoded: Uint8Array, key: KeyObject): Buffer {
  return sign('sha256', encoded, key);
}

/**
 * Reads a request and checks that it is signed with its own key, and that names and dates can be in a certificate.
 *
 * @throws BerthError invalid_argument
 */
export function checkRequest(encoded: Uint8Array, signature: Uint8Array): CertificateRequest {
  let request: CertificateRequest;
  let valid: boolean;
  try {
    request = decodeRequest(encoded);
    const key = createPublicKey({ key: request.publicKey, format: 'der', type: 'spki' });
    if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new FormatError('the key is not on P-256');
    valid = verify('sha256', encoded, key, signature);
  } catch (error) {
    throw new BerthError('invalid_argument', { reason: 'Malformed certificate request' }, error);
  }
  if (!valid) throw new BerthError('invalid_argument', { reason: 'The certificate request is not signed by its key' });
  checkNames(request);
  validity(request.notBefore, request.notAfter);
  return request;
}
