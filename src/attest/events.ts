import { FormatError } from './byte-reader.ts';
import { sha384 } from './hash.ts';
import { MAX_EVENTS } from './limits.ts';
import { REGISTER_BYTES } from './rtmr.ts';

/** The type of every event that is measured at run time. */
export const RUNTIME_EVENT_TYPE = 0x08000001;
/** The register that runtime events go to. */
export const RUNTIME_REGISTER = 3;

/**
 * An event measured into RTMR3. Version 1 is the digest over bytes, version 2 the digest over canonical JSON
 * (app-compose `event_log_version: 2`); without one it is 1.
 */
export interface RuntimeEvent {
  readonly event: string;
  readonly payload: Buffer;
  readonly version?: 1 | 2;
}

/** An entry of the event log: what was measured into which register. */
export interface TdxEvent {
  /** Register, 0 to 3. */
  readonly imr: number;
  readonly eventType: number;
  /** 48 bytes; empty where a stripped log leaves the digest of a runtime event to be computed. */
  readonly digest: Buffer;
  readonly event: string;
  readonly payload: Buffer;
  /** Only with version 2 events. */
  readonly version?: 2;
}

/** An event of the log as JSON shows it: bytes in lower-case hex. */
export interface EventJson {
  readonly imr: number;
  readonly event_type: number;
  readonly digest: string;
  readonly event: string;
  readonly event_payload: string;
  readonly version?: 2;
}

/**
 * The digest that is extended into RTMR3.
 *
 * Version 1: SHA-384( u32le(type) ‖ ":" ‖ name ‖ ":" ‖ payload ). The name may hold a colon, so two events can have one
 * digest; that is the published format. Version 2: SHA-384 of the canonical JSON (RFC 8785) of name, payload and type.
 */
export function runtimeEventDigest({ event, payload, version = 1 }: RuntimeEvent): Buffer {
  if (version === 2)
    return sha384(
      `{"name":${JSON.stringify(event)},"payload":"${payload.toString('hex')}","type":${RUNTIME_EVENT_TYPE}}`,
    );
  const type = Buffer.alloc(4);
  type.writeUInt32LE(RUNTIME_EVENT_TYPE);
  return sha384(type, ':', event, ':', payload);
}

/** A runtime event as an entry of the log, its digest filled in. */
export function toTdxEvent(event: RuntimeEvent): TdxEvent {
  return {
    imr: RUNTIME_REGISTER,
    eventType: RUNTIME_EVENT_TYPE,
    digest: runtimeEventDigest(event),
    event: event.event,
    payload: event.payload,
    ...(event.version === 2 ? { version: 2 as const } : {}),
  };
}

/** Whether an entry is one of those that {@link toTdxEvent} makes. */
export function isRuntimeEvent(event: TdxEvent): boolean {
  return event.imr === RUNTIME_REGISTER && event.eventType === RUNTIME_EVENT_TYPE;
}

/** The log with the digest of every runtime event computed from its content, so that it can be replayed. */
export function withDigests(events: readonly TdxEvent[]): TdxEvent[] {
  return events.map((event) =>
    isRuntimeEvent(event) ? { ...event, digest: runtimeEventDigest({ ...event, version: event.version ?? 1 }) } : event,
  );
}

/**
 * The log for a certificate: runtime events without their digests, which their content gives, and nothing of the registers
 * 0 to 2, which the quote itself holds.
 */
export function stripEvents(events: readonly TdxEvent[]): TdxEvent[] {
  return events.filter(isRuntimeEvent).map((event) => ({ ...event, digest: Buffer.alloc(0) }));
}

/**
 * The log as `GetQuote` gives it: the payload of boot events is left out (their digest is what was measured), the digest
 * of runtime events is filled in.
 */
export function quoteEventLog(events: readonly TdxEvent[]): EventJson[] {
  return events.map((event) => eventJson(isRuntimeEvent(event) ? event : { ...event, payload: Buffer.alloc(0) }));
}

/** An entry in the JSON shape of the event log. */
export function eventJson({ imr, eventType, digest, event, payload, version }: TdxEvent): EventJson {
  return {
    imr,
    event_type: eventType,
    digest: digest.toString('hex'),
    event,
    event_payload: payload.toString('hex'),
    ...(version === 2 ? { version } : {}),
  };
}

/**
 * Reads an event log from its JSON text or value. Throws a {@link FormatError} that names the entry when it is not one.
 */
export function parseEventLog(log: string | unknown): TdxEvent[] {
  const list: unknown = typeof log === 'string' ? parseJson(log) : log;
  if (!Array.isArray(list)) throw new FormatError('the event log is not an array');
  if (list.length > MAX_EVENTS) throw new FormatError('the event log is too long');
  return list.map((entry: Partial<EventJson> | null, index) => {
    const bad = (what: string): never => {
      throw new FormatError(`event ${index}: ${what}`);
    };
    if (entry === null || typeof entry !== 'object') return bad('not an object');
    const { imr, event_type: eventType, digest = '', event = '', event_payload: payload = '', version } = entry;
    if (!Number.isInteger(imr) || imr! < 0 || imr! > 3) return bad('imr is not 0 to 3');
    if (!Number.isInteger(eventType) || eventType! < 0 || eventType! > 0xffffffff) return bad('bad event_type');
    if (typeof event !== 'string') return bad('event is not a text');
    const digestBytes = hex(digest) ?? bad('digest is not hex');
    if (digestBytes.length !== 0 && digestBytes.length !== REGISTER_BYTES) return bad('digest has not 48 bytes');
    return {
      imr: imr!,
      eventType: eventType!,
      digest: digestBytes,
      event,
      payload: hex(payload) ?? bad('event_payload is not hex'),
      ...(version === 2 ? { version: 2 as const } : {}),
    };
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new FormatError('the event log is not JSON');
  }
}

function hex(text: unknown): Buffer | null {
  return typeof text === 'string' && /^(?:[0-9a-f]{2})*$/i.test(text) ? Buffer.from(text, 'hex') : null;
}
