import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../common/log.ts';
import type { EngineExit } from '../engine.ts';
import type { Monitors } from './monitors.ts';
import type { ProcessTable, VmProcess } from './qemu-process.ts';
import type { QmpEvent } from './qemu-qmp.ts';

/** Milliseconds between attempts to talk to a live process whose monitor does not accept a session. */
const retryMs = 1000;
/** Milliseconds in which one disk error of a VM is logged. */
const diskErrorLogMs = 60_000;
/** Milliseconds a process may take from closing its monitor to its end. */
const endingMs = 500;

/** QEMU's words for the reasons of an orderly end. Any other, or none, is a crash. */
const reasons: Readonly<Record<string, EngineExit['reason']>> = {
  'guest-shutdown': 'shutdown',
  'guest-reset': 'reset',
  'host-qmp-quit': 'shutdown',
  'host-signal': 'shutdown',
};

/**
 * Watches one VM's process to its end. The end of the QMP session is what tells, so nothing is polled, and the events of
 * the session tell why, and when the guest is held or let go.
 */
export class VmWatch {
  readonly #process: VmProcess;
  readonly #table: ProcessTable;
  readonly #monitors: Monitors;
  readonly #log: Log;
  readonly #stopped = new AbortController();
  #shutdown: unknown = null;
  #panicked = false;
  #destroyed = false;
  #onChange = () => {};
  #errorsLoggedAt = -Infinity;

  constructor(process: VmProcess, table: ProcessTable, monitors: Monitors, log: Log) {
    this.#process = process;
    this.#table = table;
    this.#monitors = monitors;
    this.#log = log;
  }

  /** Calls `onExit` once when the process has ended, unless `stop` comes first; `onChange` when it pauses or goes on. */
  start(onExit: (exit: EngineExit) => void, onChange: () => void): void {
    this.#onChange = onChange;
    void this.#run().then((exit) => {
      if (exit !== null) onExit(exit);
    });
  }

  stop(): void {
    this.#stopped.abort();
  }

  /** Says that the engine itself ends the process: not a crash. */
  expectEnd(): void {
    this.#destroyed = true;
  }

  async #run(): Promise<EngineExit | null> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await this.#session();
      if (signal.aborted) return null;
      if (await this.#table.waitForEnd(this.#process, endingMs)) return this.#exit();
      await delay(retryMs, undefined, { signal }).catch(() => {});
    }
    return null;
  }

  /** Follows one QMP session until it ends; returns at once when there is none to be had. */
  async #session(): Promise<void> {
    try {
      const session = await this.#monitors.connect(this.#process.dir);
      const forget = session.onEvent((event) => this.#onEvent(event));
      await session.closed;
      forget();
      // Read from the session, which may have heard of the end before this watch began.
      this.#shutdown = session.lastEvent('SHUTDOWN')?.data.reason ?? this.#shutdown;
      this.#panicked ||= session.lastEvent('GUEST_PANICKED') !== undefined;
    } catch (error) {
      this.#log.debug({ err: error, vm: this.#process.id }, 'no monitor session');
    }
  }

  #onEvent({ event, data }: QmpEvent): void {
    if (this.#stopped.signal.aborted) return;
    if (event === 'STOP' || event === 'RESUME') this.#onChange();
    if (event === 'BLOCK_IO_ERROR') this.#logDiskError(data);
  }

  /** One in a while: a guest whose disk fails can cause them as fast as it writes. */
  #logDiskError(detail: QmpEvent['data']): void {
    const now = performance.now();
    if (now - this.#errorsLoggedAt < diskErrorLogMs) return;
    this.#errorsLoggedAt = now;
    this.#log.error({ vm: this.#process.id, detail }, 'disk error');
  }

  #exit(): EngineExit {
    const { id, pid } = this.#process;
    if (this.#destroyed) return { id, reason: 'shutdown', detail: `process ${pid} was ended on request` };
    if (this.#panicked) return { id, reason: 'crashed', detail: 'the guest kernel panicked' };
    if (this.#shutdown === null) return { id, reason: 'crashed', detail: `process ${pid} ended without a shutdown` };
    const detail = String(this.#shutdown);
    return { id, reason: reasons[detail] ?? 'crashed', detail };
  }
}
