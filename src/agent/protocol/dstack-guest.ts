import { Empty, field, type MessageOf, message, optional, repeated } from '../../api/prpc/message.ts';
import { rpc } from '../../api/prpc/service.ts';

/** Package `dstack_guest`: what programs in the VM, and the public port, call. `dstack_guest.proto` says the same. */

const name = (type: string) => `dstack_guest.${type}`;

const GetTlsKeyArgs = message(name('GetTlsKeyArgs'), {
  subject: field(1, 'string'),
  alt_names: repeated(2, 'string'),
  usage_ra_tls: field(3, 'bool'),
  usage_server_auth: field(4, 'bool'),
  usage_client_auth: field(5, 'bool'),
  not_before: optional(6, 'uint64'),
  not_after: optional(7, 'uint64'),
  with_app_info: field(8, 'bool'),
});

const DeriveKeyArgs = message(name('DeriveKeyArgs'), {
  path: field(1, 'string'),
  subject: field(2, 'string'),
  alt_names: repeated(3, 'string'),
  usage_ra_tls: field(4, 'bool'),
  usage_server_auth: field(5, 'bool'),
  usage_client_auth: field(6, 'bool'),
  random_seed: field(7, 'bool'),
});

const GetTlsKeyResponse = message(name('GetTlsKeyResponse'), {
  key: field(1, 'string'),
  certificate_chain: repeated(2, 'string'),
});

const GetKeyArgs = message(name('GetKeyArgs'), {
  path: field(1, 'string'),
  purpose: field(2, 'string'),
  algorithm: field(3, 'string'),
});

const GetKeyResponse = message(name('GetKeyResponse'), {
  key: field(1, 'bytes'),
  signature_chain: repeated(2, 'bytes'),
});

const DeriveK256KeyResponse = message(name('DeriveK256KeyResponse'), {
  k256_key: field(1, 'bytes'),
  k256_signature_chain: repeated(2, 'bytes'),
});

const TdxQuoteArgs = message(name('TdxQuoteArgs'), {
  report_data: field(1, 'bytes'),
  hash_algorithm: field(2, 'string'),
  prefix: field(3, 'string'),
});

const RawQuoteArgs = message(name('RawQuoteArgs'), { report_data: field(1, 'bytes') });

const TdxQuoteResponse = message(name('TdxQuoteResponse'), {
  quote: field(1, 'bytes'),
  event_log: field(2, 'string'),
  hash_algorithm: field(3, 'string'),
  prefix: field(4, 'string'),
});

const GetQuoteResponse = message(name('GetQuoteResponse'), {
  quote: field(1, 'bytes'),
  event_log: field(2, 'string'),
  report_data: field(3, 'bytes'),
  vm_config: field(4, 'string'),
});

const AttestResponse = message(name('AttestResponse'), { attestation: field(1, 'bytes') });

const EmitEventArgs = message(name('EmitEventArgs'), { event: field(1, 'string'), payload: field(2, 'bytes') });

const AppInfo = message(name('AppInfo'), {
  app_id: field(1, 'bytes'),
  instance_id: field(2, 'bytes'),
  app_cert: field(3, 'string'),
  tcb_info: field(4, 'string'),
  app_name: field(5, 'string'),
  device_id: field(8, 'bytes'),
  mr_aggregated: field(9, 'bytes'),
  os_image_hash: field(10, 'bytes'),
  key_provider_info: field(12, 'string'),
  compose_hash: field(13, 'bytes'),
  vm_config: field(14, 'string'),
  cloud_vendor: field(15, 'string'),
  cloud_product: field(16, 'string'),
});
export type AppInfo = MessageOf<typeof AppInfo>;

const GpuInfoResponse = message(name('GpuInfoResponse'), { attestation: field(1, 'string') });

const WorkerVersion = message(name('WorkerVersion'), { version: field(1, 'string'), rev: field(2, 'string') });

const SignRequest = message(name('SignRequest'), { algorithm: field(1, 'string'), data: field(2, 'bytes') });

const SignResponse = message(name('SignResponse'), {
  signature: field(1, 'bytes'),
  signature_chain: repeated(2, 'bytes'),
  public_key: field(3, 'bytes'),
});

const VerifyRequest = message(name('VerifyRequest'), {
  algorithm: field(1, 'string'),
  data: field(2, 'bytes'),
  signature: field(3, 'bytes'),
  public_key: field(4, 'bytes'),
});

const VerifyResponse = message(name('VerifyResponse'), { valid: field(1, 'bool') });

const GetAttestationForAppKeyRequest = message(name('GetAttestationForAppKeyRequest'), {
  algorithm: field(1, 'string'),
});

/** The service of dstack.sock. */
export const DstackGuest = {
  GetTlsKey: rpc(GetTlsKeyArgs, GetTlsKeyResponse),
  GetKey: rpc(GetKeyArgs, GetKeyResponse),
  GetQuote: rpc(RawQuoteArgs, GetQuoteResponse),
  Attest: rpc(RawQuoteArgs, AttestResponse),
  EmitEvent: rpc(EmitEventArgs, Empty),
  Info: rpc(Empty, AppInfo),
  GpuInfo: rpc(Empty, GpuInfoResponse),
  Sign: rpc(SignRequest, SignResponse),
  Verify: rpc(VerifyRequest, VerifyResponse),
  Version: rpc(Empty, WorkerVersion),
};

/** The older service of tappd.sock. */
export const Tappd = {
  DeriveKey: rpc(DeriveKeyArgs, GetTlsKeyResponse),
  DeriveK256Key: rpc(GetKeyArgs, DeriveK256KeyResponse),
  TdxQuote: rpc(TdxQuoteArgs, TdxQuoteResponse),
  RawQuote: rpc(RawQuoteArgs, TdxQuoteResponse),
  Info: rpc(Empty, AppInfo),
  Version: rpc(Empty, WorkerVersion),
};

/** The public service of the HTTP port. */
export const Worker = {
  Info: rpc(Empty, AppInfo),
  Version: rpc(Empty, WorkerVersion),
  GetAttestationForAppKey: rpc(GetAttestationForAppKeyRequest, GetQuoteResponse),
};
