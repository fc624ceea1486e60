import type { Handlers } from '../api/prpc/service.ts';
import { osImageHash } from '../attest/boot-measurements.ts';
import { k256PublicKey } from '../attest/secp256k1.ts';
import { keyBinding } from '../attest/tls/binding.ts';
import { checkRequest } from '../attest/tls/csr.ts';
import { issueLeaf } from '../attest/tls/issue.ts';
import { certificateAttestation } from '../attest/tls/peer.ts';
import type { Trust } from '../attest/verify/input.ts';
import type { AttestedClaims } from '../attest/verify/report.ts';
import { verifyAttestation } from '../attest/verify/verify.ts';
import { certificateLabel, privateKeyPem, toPem } from '../attest/x509/pem.ts';
import { BerthError } from '../common/errors.ts';
import { appInfoOf } from './app-info.ts';
import { appAuthority, appSecrets, envEncryptPublicKey } from './app-secrets.ts';
import { authorize, type Policy } from './policy.ts';
import type { kmsService } from './protocol.ts';
import type { KmsRoot } from './root.ts';

export interface KmsOptions {
  readonly root: KmsRoot;
  /** Whose quotes are believed. */
  readonly trust: () => Trust;
  /** Asked at each request, so that a changed policy holds at once. */
  readonly policy: () => Promise<Policy>;
}

/** What the listener knows of a caller. */
export interface Caller {
  /** DER of its certificate, when it is signed by the temporary authority; the handshake proved that it has the key. */
  readonly certificate: Buffer | null;
}

/** Highest version of requests that this KMS knows. */
const API_VERSION = 2;

export function kmsHandlers({ root, trust, policy }: KmsOptions): Handlers<typeof kmsService, Caller> {
  const caCert = pem(root.caCertificate);

  /** Who a caller is, if its attestation holds and the policy lets it have keys. */
  const admit = async (attestation: Uint8Array, reportData: Buffer): Promise<Admitted> => {
    const report = await verifyAttestation({ attestation }, trust(), { reportData });
    if (!report.valid || report.claims === null) {
      const wrong = report.checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail}`);
      throw new BerthError('permission_denied', {}, new Error(`attestation refused: ${wrong.join('; ')}`));
    }
    const admitted = readClaims(report.claims);
    authorize(await policy(), {
      appId: admitted.appId.toString('hex'),
      composeHash: admitted.composeHash.toString('hex'),
      osImage: admitted.osImage.toString('hex'),
    });
    return admitted;
  };

  return {
    GetMeta: async () => ({
      ca_cert: caCert,
      allow_any_upgrade: false,
      k256_pubkey: await k256PublicKey(root.k256Key),
      bootstrap_info: null,
      is_dev: trust().root !== undefined,
      gateway_app_id: null,
      kms_contract_address: null,
      chain_id: null,
      app_auth_implementation: null,
    }),
    GetAppEnvEncryptPubKey: async ({ app_id }) => {
      const { publicKey, signature, timestamp, signatureV1 } = await envEncryptPublicKey(
        root,
        Buffer.from(app_id),
        new Date(),
      );
      return { public_key: publicKey, signature, timestamp, signature_v1: signatureV1 };
    },
    GetTempCaCert: () => ({
      temp_ca_cert: pem(root.tempCaCertificate),
      temp_ca_key: privateKeyPem(root.tempCaKey),
      ca_cert: caCert,
    }),
    GetAppKey: async ({ api_version }, { certificate }) => {
      checkVersion(api_version);
      const presented = presentedAttestation(certificate);
      const { appId, instanceId, osImage } = await admit(presented.attestation, presented.reportData);
      const secrets = await appSecrets(root, appId, instanceId);
      return {
        ca_cert: caCert,
        disk_crypt_key: secrets.diskCryptKey,
        env_crypt_key: secrets.envCryptKey,
        k256_key: secrets.k256Key,
        k256_signature: secrets.k256Signature,
        tproxy_app_id: '',
        gateway_app_id: '',
        os_image_hash: osImage,
      };
    },
    SignCert: async ({ api_version, csr, signature }) => {
      checkVersion(api_version);
      const request = checkRequest(csr, signature);
      const admitted = await admit(request.attestation, keyBinding(request.publicKey));
      const authority = appAuthority(root, admitted.appId);
      const leaf = issueLeaf(request, authority, {
        appId: admitted.appId,
        ...(request.withAppInfo ? { appInfo: appInfoOf(admitted.claims) } : {}),
      });
      return { certificate_chain: [leaf, authority.certificate, root.caCertificate].map(pem) };
    },
  };
}

function presentedAttestation(certificate: Buffer | null): NonNullable<ReturnType<typeof certificateAttestation>> {
  const refused = (cause: unknown): BerthError => new BerthError('permission_denied', {}, cause);
  if (certificate === null) throw refused(new Error('no client certificate of the temporary authority'));
  try {
    const presented = certificateAttestation(certificate);
    if (presented !== null) return presented;
  } catch (error) {
    throw refused(error);
  }
  throw refused(new Error('the client certificate has no attestation'));
}

interface Admitted {
  readonly appId: Buffer;
  readonly composeHash: Buffer;
  /** Empty when the app has none. */
  readonly instanceId: Buffer;
  readonly osImage: Buffer;
  readonly claims: AttestedClaims;
}

function readClaims(claims: AttestedClaims): Admitted {
  const { appId, composeHash, instanceId, mrtd, rtmr1, rtmr2 } = claims;
  if (appId === null || composeHash === null)
    throw new BerthError('permission_denied', {}, new Error('the attestation names no app'));
  const bytes = (hex: string | undefined): Buffer => Buffer.from(hex ?? '', 'hex');
  const unused = Buffer.alloc(48);
  return {
    appId: bytes(appId),
    composeHash: bytes(composeHash),
    instanceId: bytes(instanceId ?? ''),
    osImage: osImageHash(bytes(mrtd), [unused, bytes(rtmr1), bytes(rtmr2), unused]),
    claims,
  };
}

function checkVersion(version: number): void {
  if (version > API_VERSION)
    throw new BerthError('invalid_argument', { reason: `api_version ${version} is not known` });
}

function pem(certificate: Buffer): string {
  return toPem(certificate, certificateLabel);
}
