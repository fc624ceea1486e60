import { decode } from '@msgpack/msgpack';
import { z } from 'zod';
import type { Attestation } from './attestation.ts';
import { platformKinds as kinds } from './attestation-v1-kinds.ts';
import { FormatError } from './byte-reader.ts';
import type { RuntimeEvent, TdxEvent } from './events.ts';
import { REPORT_DATA_BYTES } from './quoter.ts';

const byte = z.int().min(0).max(255);
const bytes = z
  .union([z.instanceof(Uint8Array), z.array(byte)])
  .transform((value) => (value instanceof Uint8Array ? Buffer.from(value) : Buffer.from(value)));
const u32 = z.int().min(0).max(0xffffffff);
const eventVersion = z.union([z.literal(1), z.literal(2)]).optional();

const schema = z.object({
  version: z.literal(1),
  platform: z.object({
    kind: z.enum([kinds.tdx, kinds.tpm]),
    data: z.object({
      quote: bytes,
      event_log: z.array(
        z.object({
          imr: u32,
          event_type: u32,
          digest: bytes,
          event: z.string(),
          event_payload: bytes,
          version: eventVersion,
        }),
      ),
    }),
  }),
  stack: z.object({
    kind: z.string(),
    data: z.object({
      report_data: bytes.refine((value) => value.length === REPORT_DATA_BYTES),
      runtime_events: z.array(z.object({ event: z.string(), payload: bytes, version: eventVersion })),
      config: z.string(),
    }),
  }),
});

/** Reads one from untrusted bytes. Throws {@link FormatError}. */
export function decodeV1(encoded: Uint8Array): Attestation {
  const parsed = schema.safeParse(decodeMap(encoded));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new FormatError(`the attestation is not one: ${issue?.path.join('.')} ${issue?.message}`);
  }
  const { platform, stack } = parsed.data;
  return {
    platform: platform.kind === kinds.tpm ? 'tpm' : 'tdx',
    quote: platform.data.quote,
    eventLog: platform.data.event_log.map(
      ({ imr, event_type, digest, event, event_payload, version }): TdxEvent => ({
        imr,
        eventType: event_type,
        digest,
        event,
        payload: event_payload,
        ...(version === 2 ? { version } : {}),
      }),
    ),
    runtimeEvents: stack.data.runtime_events.map(
      ({ event, payload, version }): RuntimeEvent => ({ event, payload, ...(version === 2 ? { version } : {}) }),
    ),
    reportData: stack.data.report_data,
    config: stack.data.config,
  };
}

function decodeMap(encoded: Uint8Array): unknown {
  // A length is believed only as far as there are bytes for it.
  const most = encoded.length;
  try {
    return decode(encoded, {
      maxStrLength: most,
      maxBinLength: most,
      maxArrayLength: most,
      maxMapLength: 64,
      maxExtLength: 0,
    });
  } catch (error) {
    throw new FormatError(`the attestation is not MessagePack: ${(error as Error).message}`);
  }
}
