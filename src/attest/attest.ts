import type { EventJson, RuntimeEvent, TdxEvent } from './events.ts';
import type { Measurements } from './measurements.ts';
import type { Quoter } from './quoter.ts';

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
  /** File with the runtime events of this boot, one JSON object a line; it must not outlive the boot. */
  readonly eventLogPath: string;
  readonly vmConfig: string;
}

/** The attestation side of one VM: its event log, its quotes. */
export interface Attestor {
  readonly simulated: boolean;
  /** All entries, boot events first, nothing stripped. */
  events(): readonly TdxEvent[];
  /** The runtime events alone. */
  runtimeEvents(): readonly RuntimeEvent[];
  /** Measures an event of the boot: only before `system-ready`. */
  measure(event: RuntimeEvent): Promise<void>;
  /**
   * Measures an event of the app: only after `system-ready`, so it cannot pass for one of the system's.
   *
   * @throws BerthError invalid_argument when name or payload are too long, or the log is full
   */
  emit(event: string, payload: Uint8Array): Promise<void>;
  /** @throws BerthError invalid_argument when `reportData` has more than 64 bytes */
  getQuote(reportData: Uint8Array): Promise<QuoteResult>;
  /**
   * A versioned attestation (wire notes: SCALE is 0, MessagePack is 1).
   *
   * @param options.stripped leaves out what a certificate has no room for
   */
  attest(reportData: Uint8Array, options?: { readonly version?: 0 | 1; readonly stripped?: boolean }): Promise<Buffer>;
  /** The registers as they are now. */
  measurements(): Promise<Measurements>;
}
