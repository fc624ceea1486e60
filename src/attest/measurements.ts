import { keccak256, sha256 } from './hash.ts';
import type { KeyProviderName } from './key-provider.ts';
import { REGISTER_BYTES, type Rtmrs } from './rtmr.ts';

/** The measurements of a trust domain, 48 bytes each, as its TD report holds them. */
export interface Measurements {
  readonly mrtd: Buffer;
  readonly rtmrs: Rtmrs;
  readonly mrConfigId: Buffer;
  readonly mrOwner: Buffer;
  readonly mrOwnerConfig: Buffer;
}

/** SHA-256 over all measurements; the three configuration registers count when one of them is not zero. */
export function mrAggregated({ mrtd, rtmrs, mrConfigId, mrOwner, mrOwnerConfig }: Measurements): Buffer {
  const configuration = [mrConfigId, mrOwner, mrOwnerConfig];
  const used = configuration.some((register) => register.some((byte) => byte !== 0));
  return sha256(mrtd, ...rtmrs, ...(used ? configuration : []));
}

/** SHA-256 over what booted and who gave the keys, the same for every app: `keyProvider` is the event's payload. */
export function mrSystem(
  { mrtd, rtmrs }: Pick<Measurements, 'mrtd' | 'rtmrs'>,
  keyProvider: Uint8Array | null,
): Buffer {
  const provider = keyProvider === null ? Buffer.alloc(32) : sha256(keyProvider);
  return sha256(mrtd, rtmrs[0], rtmrs[1], rtmrs[2], provider);
}

/** MRCONFIGID, version 1: 0x01 ‖ compose hash (32 bytes), padded with zeros. */
export function mrConfigIdV1(composeHash: Uint8Array): Buffer {
  return padded(Buffer.concat([Buffer.of(1), composeHash]));
}

const keyProviderBytes: Record<KeyProviderName, number> = { none: 0, 'local-sgx': 1, kms: 2, tpm: 3 };

/** MRCONFIGID, version 2: 0x02 ‖ Keccak-256(compose hash ‖ app id ‖ provider byte ‖ provider id), padded with zeros. */
export function mrConfigIdV2(config: {
  readonly composeHash: Uint8Array;
  readonly appId: Uint8Array;
  readonly keyProvider: KeyProviderName;
  readonly keyProviderId: Uint8Array;
}): Buffer {
  const { composeHash, appId, keyProvider, keyProviderId } = config;
  const digest = keccak256(composeHash, appId, Buffer.of(keyProviderBytes[keyProvider]), keyProviderId);
  return padded(Buffer.concat([Buffer.of(2), digest]));
}

/**
 * MRCONFIGID, version 3: 0x03 ‖ SHA-256("dstack-mr-config-v3:" ‖ 0x00 ‖ document), padded with zeros.
 * @param document canonical JSON (RFC 8785), which is hashed as it is
 */
export function mrConfigIdV3(document: string): Buffer {
  return padded(Buffer.concat([Buffer.of(3), sha256('dstack-mr-config-v3:', Buffer.of(0), document)]));
}

function padded(bytes: Uint8Array): Buffer {
  const register = Buffer.alloc(REGISTER_BYTES);
  register.set(bytes);
  return register;
}
