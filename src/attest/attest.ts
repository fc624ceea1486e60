import { BerthError } from '../common/errors.ts';
import { type Attestation, encodeAttestation } from './attestation.ts';
import {
  type EventJson,
  isRuntimeEvent,
  quoteEventLog,
  RUNTIME_REGISTER,
  type RuntimeEvent,
  runtimeEventDigest,
  stripEvents,
  type TdxEvent,
  toTdxEvent,
} from './events.ts';
import type { Measurements } from './measurements.ts';
import { type Quoter, REPORT_DATA_BYTES } from './quoter.ts';
import { replay } from './rtmr.ts';
import { RuntimeLog } from './runtime-log.ts';
import { isSystemReady } from './system-events.ts';

/** What `GetQuote` gives. */
export interface QuoteResult {
  readonly quote: Buffer;
  /** Without the payloads of boot events, with every digest. */
  readonly eventLog: readonly EventJson[];
  /** The 64 bytes that were signed: what was asked for, padded with zeros. */
  readonly reportData: Buffer;
  /** Text of the VM's configuration, as the host gave it. */
  readonly vmConfig: string;
}

export interface AttestorOptions {
  readonly quoter: Quoter;
  /** File with the runtime events of this boot; it must not outlive the boot. */
  readonly eventLogPath: string;
  readonly vmConfig: string;
}

export interface AttestOptions {
  /** Default 0, or 1 where 0 cannot hold what there is. */
  readonly version?: 0 | 1;
  /** Leaves out what a certificate has no room for and a verifier can do without. */
  readonly stripped?: boolean;
}

/** Bounds of what an app may add to its event log: with it an attestation is still one that readers take (limits.ts). */
const MAX_NAME_BYTES = 1024;
const MAX_PAYLOAD_BYTES = 64 * 1024;
const MAX_EVENTS = 2048;
const MAX_LOG_BYTES = 320 * 1024;

/** The attestation side of one VM: its event log and its quotes. */
export class Attestor {
  readonly #quoter: Quoter;
  readonly #log: RuntimeLog;
  readonly #vmConfig: string;
  /** The entries of the log, which is only ever added to. */
  readonly #entries: TdxEvent[];
  #logBytes: number;
  /** Measuring and quoting happen one after another: a log must fit its quote. */
  #last: Promise<unknown> = Promise.resolve();
  /** False while the last event is in the log and perhaps not in the register. */
  #isMeasured = true;

  private constructor(quoter: Quoter, log: RuntimeLog, vmConfig: string) {
    this.#quoter = quoter;
    this.#log = log;
    this.#vmConfig = vmConfig;
    this.#entries = [...quoter.bootEvents(), ...log.events.map(toTdxEvent)];
    this.#logBytes = log.events.reduce((sum, event) => sum + size(event), 0);
  }

  /**
   * Takes up the log of this boot.
   *
   * @throws Error when registers that outlive the process hold something else than the log says
   */
  static async open({ quoter, eventLogPath, vmConfig }: AttestorOptions): Promise<Attestor> {
    const log = await RuntimeLog.open(eventLogPath);
    await restoreRegister(quoter, log.events);
    return new Attestor(quoter, log, vmConfig);
  }

  get simulated(): boolean {
    return this.#quoter.simulated;
  }

  /** All entries, boot events first, nothing stripped. */
  events(): TdxEvent[] {
    return [...this.#entries];
  }

  runtimeEvents(): readonly RuntimeEvent[] {
    return this.#log.events;
  }

  /** Measures an event of the boot, which may not be over yet. */
  measure(event: RuntimeEvent): Promise<void> {
    return this.#serial(() => {
      if (isSystemReady(this.#log.events)) throw new Error(`${event.event} is measured after the boot is over`);
      return this.#extend(event);
    });
  }

  /**
   * Measures an event of the app. The boot must be over: what comes then cannot pass for an event of the system, whatever
   * its name.
   *
   * @throws BerthError invalid_argument when name or payload are too long, resource_exhausted when the log is full
   */
  async emit(event: string, payload: Uint8Array): Promise<void> {
    if (Buffer.byteLength(event) > MAX_NAME_BYTES) throw tooLong('event', MAX_NAME_BYTES);
    if (payload.length > MAX_PAYLOAD_BYTES) throw tooLong('payload', MAX_PAYLOAD_BYTES);
    await this.#serial(() => {
      const [first] = this.#log.events;
      if (!isSystemReady(this.#log.events)) throw new BerthError('conflict', { reason: 'The boot is not over yet' });
      const added: RuntimeEvent = {
        event,
        payload: Buffer.from(payload),
        ...(first?.version === 2 ? { version: 2 } : {}),
      };
      if (this.#log.events.length >= MAX_EVENTS || this.#logBytes + size(added) > MAX_LOG_BYTES)
        throw new BerthError('quota_exceeded', { resource: 'event log', limit: MAX_EVENTS });
      return this.#extend(added);
    });
  }

  /** @throws BerthError invalid_argument when `reportData` has more than 64 bytes */
  async getQuote(reportData: Uint8Array): Promise<QuoteResult> {
    const padded = padReportData(reportData);
    const { quote, events } = await this.#quote(padded);
    return { quote, eventLog: quoteEventLog(events), reportData: padded, vmConfig: this.#vmConfig };
  }

  /**
   * A versioned attestation, as bytes.
   *
   * @throws BerthError invalid_argument when `reportData` has more than 64 bytes
   */
  async attest(reportData: Uint8Array, options: AttestOptions = {}): Promise<Buffer> {
    const padded = padReportData(reportData);
    const { quote, events } = await this.#quote(padded);
    const attestation: Attestation = {
      platform: this.#quoter.platform,
      quote,
      eventLog: options.stripped ? stripEvents(events) : events,
      runtimeEvents: events.filter(isRuntimeEvent).map(({ event, payload, version }) => ({
        event,
        payload,
        ...(version === 2 ? { version } : {}),
      })),
      reportData: padded,
      config: this.#vmConfig,
    };
    const needsV1 = attestation.platform !== 'tdx' || events.some(({ version }) => version === 2);
    return encodeAttestation(attestation, options.version ?? (needsV1 ? 1 : 0));
  }

  /** The registers, and all entries, which give them. */
  measured(): Promise<{ readonly registers: Measurements; readonly events: TdxEvent[] }> {
    return this.#serial(async () => {
      const events = this.events();
      return { registers: await this.#quoter.measurements(), events };
    });
  }

  #quote(reportData: Buffer): Promise<{ readonly quote: Buffer; readonly events: TdxEvent[] }> {
    return this.#serial(async () => {
      const events = this.events();
      return { quote: await this.#quoter.quote(reportData), events };
    });
  }

  async #extend(event: RuntimeEvent): Promise<void> {
    // The log first: an event that is logged and not measured is seen, and measured, before anything else happens.
    await this.#log.append(event);
    this.#isMeasured = false;
    const entry = toTdxEvent(event);
    this.#entries.push(entry);
    this.#logBytes += size(event);
    await this.#quoter.extend(entry.digest);
    this.#isMeasured = true;
  }

  #serial<T>(run: () => T | Promise<T>): Promise<T> {
    const next = this.#last.then(async () => {
      if (!this.#isMeasured) await measureLast(this.#quoter, this.#log.events);
      this.#isMeasured = true;
      return run();
    });
    this.#last = next.catch(() => {});
    return next;
  }
}

/** The 64 bytes that a quote binds. @throws BerthError invalid_argument when there are more */
export function padReportData(reportData: Uint8Array): Buffer {
  if (reportData.length > REPORT_DATA_BYTES)
    throw new BerthError('invalid_argument', { reason: 'Report data is too long' });
  const padded = Buffer.alloc(REPORT_DATA_BYTES);
  padded.set(reportData);
  return padded;
}

async function restoreRegister(quoter: Quoter, events: readonly RuntimeEvent[]): Promise<void> {
  if (quoter.keepsRegisters) return measureLast(quoter, events);
  for (const event of events) await quoter.extend(runtimeEventDigest(event));
}

/** Measures the last event when a crash, or a TEE that failed, left it in the log alone. */
async function measureLast(quoter: Quoter, events: readonly RuntimeEvent[]): Promise<void> {
  const digests = events.map(runtimeEventDigest);
  const { rtmrs } = await quoter.measurements();
  const register = rtmrs[RUNTIME_REGISTER];
  const after = (count: number): Buffer =>
    replay(digests.slice(0, count).map((digest) => ({ imr: RUNTIME_REGISTER, digest })))[RUNTIME_REGISTER];
  if (register.equals(after(digests.length))) return;
  const last = digests.at(-1);
  if (last === undefined || !register.equals(after(digests.length - 1)))
    throw new Error('the runtime event log does not fit the measurement register');
  await quoter.extend(last);
}

function size({ event, payload }: RuntimeEvent): number {
  return Buffer.byteLength(event) + payload.length;
}

function tooLong(field: string, most: number): BerthError {
  return new BerthError('invalid_argument', { reason: `${field} has more than ${most} bytes` });
}
