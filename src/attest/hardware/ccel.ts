import { ByteReader, FormatError } from '../byte-reader.ts';
import type { TdxEvent } from '../events.ts';

/**
 * The confidential-computing event log that a TDX guest's firmware leaves in memory (UEFI 2.10, 38.4; TCG PC client platform
 * firmware profile, 10): the events behind RTMR0 to RTMR2.
 */

const EV_NO_ACTION = 3;
const SHA384 = 0x0c;
/** Bytes of the digests that a log may hold, by algorithm. */
const digestBytes = new Map([
  [0x04, 20],
  [0x0b, 32],
  [SHA384, 48],
  [0x0d, 64],
  [0x12, 32],
]);
const MAX_LOG_BYTES = 4 * 1024 * 1024;
const MAX_EVENTS = 10_000;
/** The index that stands behind the last event where the memory is not zero. */
const UNUSED = 0xffffffff;

/** Reads a log. Throws {@link FormatError}. */
export function parseCcel(log: Uint8Array): TdxEvent[] {
  if (log.length > MAX_LOG_BYTES) throw new FormatError('the event log is too long');
  const reader = new ByteReader(log);
  // The first event says which form the others have; it is measured nowhere.
  reader.bytes(4);
  if (reader.u32le() !== EV_NO_ACTION) throw new FormatError('the event log does not begin with its version');
  reader.bytes(20);
  const version = reader.bytes(reader.u32le());
  if (!version.toString('latin1').startsWith('Spec ID Event03\0'))
    throw new FormatError('an event log of a version that is not known');
  const events: TdxEvent[] = [];
  while (reader.remaining >= 16) {
    const index = reader.u32le();
    const eventType = reader.u32le();
    const count = reader.u32le();
    if (index === UNUSED || count === 0) break;
    const digest = readDigests(reader, count);
    const payload = reader.bytes(reader.u32le());
    if (eventType === EV_NO_ACTION) continue;
    // Index 0 is MRTD, which events do not change.
    if (index < 1 || index > 4) throw new FormatError(`an event of register ${index}`);
    if (digest === null) throw new FormatError('an event without a SHA-384 digest');
    events.push({ imr: index - 1, eventType, digest, event: '', payload });
    if (events.length > MAX_EVENTS) throw new FormatError('the event log has too many events');
  }
  return events;
}

function readDigests(reader: ByteReader, count: number): Buffer | null {
  if (count > digestBytes.size) throw new FormatError('an event has too many digests');
  let found: Buffer | null = null;
  for (let index = 0; index < count; index++) {
    const algorithm = reader.u16le();
    const length = digestBytes.get(algorithm);
    if (length === undefined) throw new FormatError(`a digest by algorithm ${algorithm}`);
    const digest = reader.bytes(length);
    if (algorithm === SHA384) found = digest;
  }
  return found;
}
