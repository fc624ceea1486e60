import { setTimeout as delay } from 'node:timers/promises';
import { BerthError } from '../../common/errors.ts';
import { QmpClient } from './qemu-qmp.ts';
import { vmFiles } from './vm-files.ts';

/** Milliseconds a QEMU that is well takes to greet, with ample reserve for a busy host. */
const greetingMs = 5000;

/** The open QMP sessions, one for each VM directory, made when first needed and kept until they break. */
export class Monitors {
  readonly #sessions = new Map<string, QmpClient>();

  /** The VM's session, connected but perhaps not greeted yet. Rejects with the system's error when nobody listens. */
  async connect(dir: string): Promise<QmpClient> {
    let session = this.#sessions.get(dir);
    if (session === undefined) {
      session = new QmpClient(vmFiles(dir).qmpSocket);
      this.#sessions.set(dir, session);
      const opened = session;
      void opened.closed.then(() => {
        if (this.#sessions.get(dir) === opened) this.#sessions.delete(dir);
      });
    }
    await session.connected();
    return session;
  }

  /** The VM's session, ready for commands. Rejects with `deadline_exceeded` when QEMU hangs. */
  async ready(dir: string, timeoutMs = greetingMs): Promise<QmpClient> {
    const session = await this.connect(dir);
    await session.ready(timeoutMs);
    return session;
  }

  /** As {@link ready}, for a process that has only just been started: its socket may not be there yet. */
  async readySoon(dir: string, timeoutMs: number, signal: AbortSignal): Promise<QmpClient> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      signal.throwIfAborted();
      try {
        return await this.ready(dir, Math.max(1, deadline - Date.now()));
      } catch (error) {
        if (!isNotListening(error)) throw error;
        if (Date.now() > deadline) throw new BerthError('deadline_exceeded', { operation: 'The VM monitor' }, error);
      }
      await delay(2, undefined, { signal });
    }
  }

  drop(dir: string): void {
    this.#sessions.get(dir)?.close();
    this.#sessions.delete(dir);
  }

  close(): void {
    for (const session of this.#sessions.values()) session.close();
    this.#sessions.clear();
  }
}

/** True for the errors of a unix socket that is not there yet, or no longer. */
export function isNotListening(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}
