import { Empty, field, message, optional, repeated } from '../api/prpc/message.ts';
import { rpc } from '../api/prpc/service.ts';

/** Package `kms`: what guests and those who deploy apps ask. */

const name = (type: string) => `kms.${type}`;

const AppId = message(name('AppId'), { app_id: field(1, 'bytes') });

const PublicKeyResponse = message(name('PublicKeyResponse'), {
  public_key: field(1, 'bytes'),
  signature: field(2, 'bytes'),
  timestamp: field(3, 'uint64'),
  signature_v1: field(4, 'bytes'),
});

const GetAppKeyRequest = message(name('GetAppKeyRequest'), {
  api_version: field(1, 'uint32'),
  vm_config: field(2, 'string'),
});

const AppKeyResponse = message(name('AppKeyResponse'), {
  ca_cert: field(1, 'string'),
  disk_crypt_key: field(2, 'bytes'),
  env_crypt_key: field(3, 'bytes'),
  k256_key: field(4, 'bytes'),
  k256_signature: field(5, 'bytes'),
  tproxy_app_id: field(6, 'string'),
  gateway_app_id: field(7, 'string'),
  os_image_hash: field(8, 'bytes'),
});

const GetTempCaCertResponse = message(name('GetTempCaCertResponse'), {
  temp_ca_cert: field(1, 'string'),
  temp_ca_key: field(2, 'string'),
  ca_cert: field(3, 'string'),
});

const SignCertRequest = message(name('SignCertRequest'), {
  api_version: field(1, 'uint32'),
  csr: field(2, 'bytes'),
  signature: field(3, 'bytes'),
  vm_config: field(4, 'string'),
});

const SignCertResponse = message(name('SignCertResponse'), { certificate_chain: repeated(1, 'string') });

const BootstrapInfo = message(name('BootstrapInfo'), {
  ca_pubkey: field(1, 'bytes'),
  k256_pubkey: field(2, 'bytes'),
  attestation: field(3, 'bytes'),
});

const GetMetaResponse = message(name('GetMetaResponse'), {
  ca_cert: field(1, 'string'),
  allow_any_upgrade: field(2, 'bool'),
  k256_pubkey: field(3, 'bytes'),
  bootstrap_info: field(4, BootstrapInfo),
  is_dev: field(5, 'bool'),
  gateway_app_id: optional(6, 'string'),
  kms_contract_address: optional(7, 'string'),
  chain_id: optional(8, 'uint64'),
  app_auth_implementation: optional(9, 'string'),
});

/** What may be asked without TLS: nothing in it is secret, and what must be true is signed. */
export const publicService = {
  GetAppEnvEncryptPubKey: rpc(AppId, PublicKeyResponse),
  GetMeta: rpc(Empty, GetMetaResponse),
};

export const kmsService = {
  ...publicService,
  GetAppKey: rpc(GetAppKeyRequest, AppKeyResponse),
  GetTempCaCert: rpc(Empty, GetTempCaCertResponse),
  SignCert: rpc(SignCertRequest, SignCertResponse),
};
