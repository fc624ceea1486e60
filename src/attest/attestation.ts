import { FormatError } from './byte-reader.ts';
import type { RuntimeEvent, TdxEvent } from './events.ts';
import { MAX_ATTESTATION_BYTES } from './limits.ts';
import type { Platform } from './quoter.ts';

/** A quote with all that is needed to understand it. */
export interface Attestation {
  readonly platform: Platform;
  readonly quote: Buffer;
  readonly eventLog: readonly TdxEvent[];
  readonly runtimeEvents: readonly RuntimeEvent[];
  /** 64 bytes. */
  readonly reportData: Buffer;
  /** The VM's configuration as JSON text. */
  readonly config: string;
}

/** Encodes an attestation. Version 0 knows no TPM and no events of version 2. */
export async function encodeAttestation(attestation: Attestation, version: 0 | 1): Promise<Buffer> {
  if (version === 0) {
    const { encodeV0 } = await import('./attestation-v0.ts');
    return encodeV0(attestation);
  }
  const { encodeV1 } = await import('./attestation-v1.ts');
  return encodeV1(attestation);
}

/** Reads an attestation of either version from untrusted bytes. Throws {@link FormatError}. */
export async function decodeAttestation(bytes: Uint8Array): Promise<Attestation> {
  if (bytes.length > MAX_ATTESTATION_BYTES) throw new FormatError('the attestation is too long');
  const [first] = bytes;
  if (first === 0) {
    const { decodeV0 } = await import('./attestation-v0.ts');
    return decodeV0(bytes);
  }
  // The first byte of a MessagePack map.
  if (first !== undefined && ((first >= 0x80 && first <= 0x8f) || first === 0xde || first === 0xdf)) {
    const { decodeV1 } = await import('./attestation-v1-decode.ts');
    return decodeV1(bytes);
  }
  throw new FormatError('an attestation of a version that is not known');
}
