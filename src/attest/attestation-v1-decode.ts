import type { Attestation } from './attestation.ts';
import { platformKinds as kinds } from './attestation-v1-kinds.ts';
import { FormatError } from './byte-reader.ts';
import type { RuntimeEvent, TdxEvent } from './events.ts';
import { MAX_EVENTS, MAX_QUOTE_BYTES } from './limits.ts';
import { MessagePackReader } from './messagepack-reader.ts';
import { type Platform, REPORT_DATA_BYTES } from './quoter.ts';

const MAX_U32 = 0xffffffff;
const V2 = { version: 2 } as const;

/** Reads one from untrusted bytes, in one pass that ends at the first error. Throws {@link FormatError}. */
export function decodeV1(encoded: Uint8Array): Attestation {
  const reader = new MessagePackReader(encoded);
  const top = new Fields(reader, {
    version: () => {
      const version = reader.integer(MAX_U32);
      if (version !== 1) throw new FormatError(`version ${version} of attestations is not known`);
      return version;
    },
    platform: () => new Fields(reader, { kind: () => platformOf(reader.text()), data: () => readPlatform(reader) }),
    stack: () => new Fields(reader, { kind: () => reader.text(), data: () => readStack(reader) }),
  });
  reader.end();
  top.get('version');
  const platform = top.get('platform');
  const stack = top.get('stack');
  stack.get('kind');
  return { platform: platform.get('kind'), ...platform.get('data'), ...stack.get('data') };
}

function platformOf(kind: string): Platform {
  if (kind === kinds.tdx) return 'tdx';
  if (kind === kinds.tpm) return 'tpm';
  throw new FormatError('a platform that is not known');
}

function readPlatform(reader: MessagePackReader): Pick<Attestation, 'quote' | 'eventLog'> {
  const data = new Fields(reader, {
    quote: () => reader.byteString(MAX_QUOTE_BYTES),
    event_log: () => reader.list(MAX_EVENTS, () => readEvent(reader)),
  });
  return { quote: data.get('quote'), eventLog: data.get('event_log') };
}

function readEvent(reader: MessagePackReader): TdxEvent {
  const event = new Fields(reader, {
    imr: () => reader.integer(MAX_U32),
    event_type: () => reader.integer(MAX_U32),
    digest: () => reader.byteString(reader.remaining),
    event: () => reader.text(),
    event_payload: () => reader.byteString(reader.remaining),
    version: () => readEventVersion(reader),
  });
  return {
    imr: event.get('imr'),
    eventType: event.get('event_type'),
    digest: event.get('digest'),
    event: event.get('event'),
    payload: event.get('event_payload'),
    ...(event.find('version') === 2 ? V2 : {}),
  };
}

function readStack(reader: MessagePackReader): Pick<Attestation, 'runtimeEvents' | 'reportData' | 'config'> {
  const data = new Fields(reader, {
    report_data: () => reader.byteString(REPORT_DATA_BYTES),
    runtime_events: () => reader.list(MAX_EVENTS, () => readRuntimeEvent(reader)),
    config: () => reader.text(),
  });
  const reportData = data.get('report_data');
  if (reportData.length !== REPORT_DATA_BYTES) throw new FormatError(`report_data has not ${REPORT_DATA_BYTES} bytes`);
  return { runtimeEvents: data.get('runtime_events'), reportData, config: data.get('config') };
}

function readRuntimeEvent(reader: MessagePackReader): RuntimeEvent {
  const event = new Fields(reader, {
    event: () => reader.text(),
    payload: () => reader.byteString(reader.remaining),
    version: () => readEventVersion(reader),
  });
  return { event: event.get('event'), payload: event.get('payload'), ...(event.find('version') === 2 ? V2 : {}) };
}

function readEventVersion(reader: MessagePackReader): number {
  const version = reader.integer(2);
  if (version === 0) throw new FormatError('events have version 1 or 2');
  return version;
}

/** The fields of one map, in whatever order they come. */
class Fields<T extends Readonly<Record<string, () => unknown>>> {
  readonly #values = new Map<string, unknown>();

  constructor(reader: MessagePackReader, readers: T) {
    reader.map(
      Object.fromEntries(Object.entries(readers).map(([key, read]) => [key, () => void this.#values.set(key, read())])),
    );
  }

  find<K extends keyof T & string>(key: K): ReturnType<T[K]> | undefined {
    return this.#values.get(key) as ReturnType<T[K]> | undefined;
  }

  get<K extends keyof T & string>(key: K): ReturnType<T[K]> {
    const value = this.find(key);
    if (value === undefined) throw new FormatError(`there is no ${key}`);
    return value;
  }
}
