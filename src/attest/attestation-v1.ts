import { encode } from '@msgpack/msgpack';
import type { Attestation } from './attestation.ts';
import { platformKinds as kinds } from './attestation-v1-kinds.ts';

/**
 * An attestation of version 1: a MessagePack map. The quote and the report data are arrays of numbers and not bytes, as
 * the readers of this format expect; readers here take both.
 */
export function encodeV1({ platform, quote, eventLog, runtimeEvents, reportData, config }: Attestation): Buffer {
  return Buffer.from(
    encode({
      version: 1,
      platform: {
        kind: kinds[platform],
        data: {
          quote: [...quote],
          event_log: eventLog.map(({ imr, eventType, digest, event, payload, version }) => ({
            imr,
            event_type: eventType,
            digest,
            event,
            event_payload: payload,
            ...(version === 2 ? { version } : {}),
          })),
        },
      },
      stack: {
        kind: 'dstack',
        data: {
          report_data: [...reportData],
          runtime_events: runtimeEvents.map(({ event, payload, version }) => ({
            event,
            payload,
            ...(version === 2 ? { version } : {}),
          })),
          config,
        },
      },
    }),
  );
}
