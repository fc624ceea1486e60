import type { TlsKeyRequest } from '../attest/tls/request.ts';

interface TlsKeyArgs {
  readonly subject: string;
  readonly alt_names: readonly string[];
  readonly usage_ra_tls: boolean;
  readonly usage_server_auth: boolean;
  readonly usage_client_auth: boolean;
  readonly not_before?: bigint | null;
  readonly not_after?: bigint | null;
  readonly with_app_info?: boolean;
}

/** What a certificate is asked for, by its names on the wire. */
export function readTlsKeyRequest({ not_before: notBefore, not_after: notAfter, ...args }: TlsKeyArgs): TlsKeyRequest {
  return {
    subject: args.subject,
    altNames: args.alt_names,
    usageRaTls: args.usage_ra_tls,
    usageServerAuth: args.usage_server_auth,
    usageClientAuth: args.usage_client_auth,
    ...(typeof notBefore === 'bigint' ? { notBefore: Number(notBefore) } : {}),
    ...(typeof notAfter === 'bigint' ? { notAfter: Number(notAfter) } : {}),
    withAppInfo: args.with_app_info ?? false,
  };
}
