import type { AppKeys } from '../attest/app-keys.ts';
import type { CertificateSigner } from '../attest/tls/tls-key.ts';
import { LocalSigner } from '../attest/tls/tls-key.ts';
import { certificateLabel, privateKeyPem, toPem } from '../attest/x509/pem.ts';
import { appAuthority, appSecrets } from '../kms/app-secrets.ts';
import type { KmsRoot } from '../kms/root.ts';
import { rootId } from '../kms/root-id.ts';

/**
 * The keys that a KMS with this root gives an app, without asking one: laptop mode has no server, and its developer has
 * nothing to hide from himself.
 */
export async function devAppKeys(root: KmsRoot, appId: Buffer, instanceId: Buffer): Promise<AppKeys> {
  return {
    ...(await appSecrets(root, appId, instanceId)),
    gatewayAppId: '',
    caCert: pem(root.caCertificate),
    keyProvider: {
      name: 'kms',
      url: '',
      id: rootId(root.caCertificate),
      tempCaCert: pem(root.tempCaCertificate),
      tempCaKey: privateKeyPem(root.tempCaKey),
    },
  };
}

/**
 * Signs an app's certificates as that KMS would: with the app's authority, which ends at the root.
 * @param appInfo encoded app info
 */
export function devSigner(root: KmsRoot, appId: Buffer, appInfo: () => Promise<Buffer>): CertificateSigner {
  const { key, certificate } = appAuthority(root, appId);
  const signer = new LocalSigner(key, pem(certificate), appInfo, appId);
  return {
    needsAttestation: false,
    sign: async (request, signature) => [...(await signer.sign(request, signature)), pem(root.caCertificate)],
  };
}

function pem(certificate: Buffer): string {
  return toPem(certificate, certificateLabel);
}
