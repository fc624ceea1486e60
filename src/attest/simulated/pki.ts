import type { KeyObject } from 'node:crypto';
import { sha256 } from '../hash.ts';
import { deriveP256 } from '../p256.ts';
import {
  certificateAuthority,
  createCertificate,
  digitalSignature,
  type Extension,
  publicKeyInfo,
} from '../x509/certificate.ts';
import * as der from '../x509/der.ts';
import { certificateLabel, toPem } from '../x509/pem.ts';

/**
 * The keys and certificates that stand for Intel's: root, authority of platforms, platform (PCK), signer of the TCB
 * information. They are an installation's own and end at no maker of hardware; every name in them says so.
 */
export interface SimulatedPki {
  readonly keys: Readonly<Record<Role, KeyObject>>;
  /** DER. */
  readonly certificates: Readonly<Record<Exclude<Role, 'attestation'>, Buffer>>;
}

const roles = ['root', 'pck-ca', 'pck', 'tcb-signing', 'attestation'] as const;
type Role = (typeof roles)[number];

/** A platform of this family does not exist. */
export const FMSPC = '000000000000';
export const PCE_ID = '0000';
const organization = 'Berth simulated TEE, not hardware';
const validity = { notBefore: new Date('2020-01-01T00:00:00Z'), notAfter: new Date('2099-12-31T00:00:00Z') };

/**
 * The keys, which the seed alone decides. Each is derived when it is first asked for: quotes need two of them, and where a
 * processor is emulated a key takes a tenth of a second.
 */
export function simulatedKeys(seed: Uint8Array): SimulatedPki['keys'] {
  const derived = new Map<Role, KeyObject>();
  const derive = (role: Role): KeyObject => {
    const key = derived.get(role) ?? deriveP256(seed, ['berth-simulated-tee:', role]);
    derived.set(role, key);
    return key;
  };
  const getters = roles.map((role) => [role, { enumerable: true, get: () => derive(role) }] as const);
  return Object.defineProperties({}, Object.fromEntries(getters)) as Record<Role, KeyObject>;
}

/** Makes the certificates of the keys. ECDSA is randomised, so they are made once and kept. */
export function issueCertificates(keys: SimulatedPki['keys']): SimulatedPki['certificates'] {
  const issue = (
    role: Role,
    commonName: string,
    extensions: readonly Extension[],
    issuer: { readonly key: KeyObject; readonly certificate?: Buffer },
  ): Buffer =>
    createCertificate(
      { subject: { organization, commonName }, publicKey: publicKeyInfo(keys[role]), ...validity, extensions },
      issuer,
    );
  const root = issue('root', 'Simulated SGX Root CA', certificateAuthority(1), { key: keys.root });
  const pckCa = issue('pck-ca', 'Simulated SGX PCK Processor CA', certificateAuthority(0), {
    key: keys.root,
    certificate: root,
  });
  const notAuthority = [
    digitalSignature(),
    { oid: '2.5.29.19', critical: true, value: der.sequence() } satisfies Extension,
  ];
  const pck = issue('pck', 'Simulated SGX PCK Certificate', [...notAuthority, pckExtension()], {
    key: keys['pck-ca'],
    certificate: pckCa,
  });
  const tcbSigning = issue('tcb-signing', 'Simulated SGX TCB Signing', notAuthority, {
    key: keys.root,
    certificate: root,
  });
  return { root, 'pck-ca': pckCa, pck, 'tcb-signing': tcbSigning };
}

/** PEM of certificates, one after the other. */
export function chain(certificates: readonly Buffer[]): string {
  return certificates.map((certificate) => toPem(certificate, certificateLabel)).join('');
}

/** What Intel puts into the certificate of a platform (SGX PCK Certificate and CRL specification, 1.4): all numbers 0. */
function pckExtension(): Extension {
  const base = '1.2.840.113741.1.13.1';
  const entry = (path: string, content: Buffer): Buffer => der.sequence(der.oid(`${base}.${path}`), content);
  const components = Array.from({ length: 16 }, (_, index) => entry(`2.${index + 1}`, der.integer(0)));
  const tcb = der.sequence(
    ...components,
    entry('2.17', der.integer(0)),
    entry('2.18', der.octetString(Buffer.alloc(16))),
  );
  return {
    oid: base,
    value: der.sequence(
      entry('1', der.octetString(Buffer.alloc(16))),
      entry('2', tcb),
      entry('3', der.octetString(Buffer.from(PCE_ID, 'hex'))),
      entry('4', der.octetString(Buffer.from(FMSPC, 'hex'))),
      entry('5', der.enumerated(0)),
    ),
  };
}

/** Identity of an enclave. */
export interface EnclaveIdentity {
  readonly mrEnclave: Buffer;
  readonly mrSigner: Buffer;
  readonly productId: number;
  readonly securityVersion: number;
}

/** The simulated quoting enclaves: for TDs, and for other enclaves. */
export const quotingEnclaves: Readonly<Record<'tdx' | 'sgx', EnclaveIdentity>> = {
  tdx: simulatedEnclave('TD quoting enclave', 2),
  sgx: simulatedEnclave('quoting enclave', 1),
};

/** An enclave that does not exist, recognised by its name. */
export function simulatedEnclave(name: string, productId: number): EnclaveIdentity {
  return {
    mrEnclave: sha256(`berth simulated ${name}`),
    mrSigner: sha256('berth simulated enclave signer'),
    productId,
    securityVersion: 1,
  };
}
