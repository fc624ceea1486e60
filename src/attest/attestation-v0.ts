import type { Attestation } from './attestation.ts';
import { FormatError } from './byte-reader.ts';
import type { RuntimeEvent, TdxEvent } from './events.ts';
import { boundedQuote, MAX_EVENTS } from './limits.ts';
import { REPORT_DATA_BYTES } from './quoter.ts';
import { ScaleReader, ScaleWriter } from './scale.ts';

/** Number of the platform in the encoding; the others are machines that Berth has no part for. */
const TDX = 0;

/** An attestation of version 0: SCALE. */
export function encodeV0({ platform, quote, eventLog, runtimeEvents, reportData, config }: Attestation): Buffer {
  if (platform !== 'tdx') throw new RangeError('an attestation of version 0 holds a TDX quote');
  if (eventLog.some(({ version }) => version === 2) || runtimeEvents.some(({ version }) => version === 2))
    throw new RangeError('an attestation of version 0 holds events of version 1');
  const writer = new ScaleWriter();
  return writer
    .u8(0)
    .u8(TDX)
    .bytes(quote)
    .list(eventLog, ({ imr, eventType, digest, event, payload }) => {
      writer.u32(imr).u32(eventType).bytes(digest).text(event).bytes(payload);
    })
    .list(runtimeEvents, ({ event, payload }) => {
      writer.text(event).bytes(payload);
    })
    .raw(reportData)
    .text(config)
    .encode();
}

/** Reads one from untrusted bytes. Throws {@link FormatError}. */
export function decodeV0(bytes: Uint8Array): Attestation {
  const reader = new ScaleReader(bytes);
  if (reader.u8() !== 0) throw new FormatError('not an attestation of version 0');
  const platform = reader.u8();
  if (platform !== TDX) throw new FormatError(`platform ${platform} is not known`);
  const quote = boundedQuote(reader.lengthAndBytes());
  const eventLog = reader.list(
    { least: 11, most: MAX_EVENTS },
    (): TdxEvent => ({
      imr: reader.u32le(),
      eventType: reader.u32le(),
      digest: reader.lengthAndBytes(),
      event: reader.text(),
      payload: reader.lengthAndBytes(),
    }),
  );
  const runtimeEvents = reader.list(
    { least: 2, most: MAX_EVENTS },
    (): RuntimeEvent => ({ event: reader.text(), payload: reader.lengthAndBytes() }),
  );
  const reportData = reader.bytes(REPORT_DATA_BYTES);
  const config = reader.text();
  reader.end();
  return { platform: 'tdx', quote, eventLog, runtimeEvents, reportData, config };
}
