import { encode } from '@msgpack/msgpack';

/** What a certificate can say about its app (`with_app_info`). Bytes, except for the provider. */
export interface CertificateAppInfo {
  readonly appId: Buffer;
  readonly composeHash: Buffer;
  readonly instanceId: Buffer;
  readonly deviceId: Buffer;
  readonly mrSystem: Buffer;
  readonly mrAggregated: Buffer;
  readonly osImageHash: Buffer;
  /** JSON text. */
  readonly keyProviderInfo: string;
}

/** The payload of the extension: a MessagePack array of the fields in this order. */
export function encodeAppInfo(info: CertificateAppInfo): Buffer {
  const provider = Buffer.from(info.keyProviderInfo);
  return Buffer.from(
    encode([
      info.appId,
      info.composeHash,
      info.instanceId,
      info.deviceId,
      info.mrSystem,
      info.mrAggregated,
      info.osImageHash,
      provider,
    ]),
  );
}
