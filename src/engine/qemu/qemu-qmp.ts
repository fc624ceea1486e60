import { connect, type Socket } from 'node:net';
import { BerthError } from '../../common/errors.ts';
import { LineSplitter } from './qmp-lines.ts';

/** The longest reply Berth asks for (a list of block nodes) is some kilobytes. */
const maxLineBytes = 1024 * 1024;
/** QEMU has some fifty kinds of events. */
const maxEventKinds = 200;

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** QEMU understood a command and refused it. For the log; never shown to a client. */
export class QmpError extends Error {
  readonly command: string;
  readonly class: string;

  constructor(command: string, errorClass: string, description: string) {
    super(`QMP ${command}: ${description} (${errorClass})`);
    this.name = 'QmpError';
    this.command = command;
    this.class = errorClass;
  }
}

/** The connection ended while a command was under way. */
export class QmpClosedError extends Error {
  constructor() {
    super('the QMP connection is closed');
    this.name = 'QmpClosedError';
  }
}

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/**
 * One QMP session. QEMU serves one client per monitor socket at a time: a second one waits, without a greeting, until the
 * first has gone.
 *
 * @example
 * const qmp = new QmpClient('/run/vm/qmp.sock');
 * await qmp.ready(5000);
 * const status = await qmp.execute('query-status');
 */
export class QmpClient {
  readonly #socket: Socket;
  readonly #lines = new LineSplitter(maxLineBytes);
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  readonly #lastEvents = new Map<string, QmpEvent>();
  readonly #greeting = Promise.withResolvers<void>();
  readonly #connected = Promise.withResolvers<void>();
  #failure: Error | null = null;
  #nextId = 1;

  /** Settles when the connection has ended, for whatever reason; never rejects. */
  readonly closed: Promise<void>;

  constructor(path: string) {
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    // Whoever does not wait for the greeting must not be hurt by its absence.
    this.#greeting.promise.catch(() => {});
    this.#connected.promise.catch(() => {});
    this.#socket = connect({ path });
    this.#socket.on('connect', () => this.#connected.resolve());
    this.#socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    this.#socket.on('error', (error) => {
      this.#failure ??= error;
    });
    this.#socket.on('close', () => {
      const error = this.#failure ?? new QmpClosedError();
      this.#connected.reject(error);
      this.#greeting.reject(error);
      for (const pending of this.#pending.values()) {
        clearTimeout(pending.timer);
        pending.reject(error);
      }
      this.#pending.clear();
      closed.resolve();
    });
  }

  /** Resolves when the socket accepted; rejects with the system's error (ENOENT, ECONNREFUSED) when nobody listens. */
  connected(): Promise<void> {
    return this.#connected.promise;
  }

  /** Resolves when commands are accepted. Rejects with `deadline_exceeded` when QEMU says nothing in time. */
  async ready(timeoutMs: number): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(timedOut()), timeoutMs);
    try {
      await Promise.race([this.#greeting.promise, promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Runs one command. Rejects with {@link QmpError} when QEMU refuses, {@link QmpClosedError} or a system error when the
   * connection breaks, `deadline_exceeded` when no reply comes in time (a later reply is dropped).
   */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}, timeoutMs = 5000): Promise<unknown> {
    if (this.#socket.destroyed) return Promise.reject(this.#failure ?? new QmpClosedError());
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const id = this.#nextId++;
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      reject(timedOut());
    }, timeoutMs);
    this.#pending.set(id, { command, resolve, reject, timer });
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    return promise;
  }

  /** Calls back for each event until the returned function is called. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The latest event of a kind, also after the connection has ended. */
  lastEvent(kind: string): QmpEvent | undefined {
    return this.#lastEvents.get(kind);
  }

  close(): void {
    this.#socket.destroy();
  }

  #onData(chunk: Buffer): void {
    try {
      for (const line of this.#lines.push(chunk)) this.#onMessage(JSON.parse(line));
    } catch (error) {
      // Not QMP: nothing that follows can be trusted either.
      this.#failure ??= new Error('malformed QMP message', { cause: error });
      this.#socket.destroy();
    }
  }

  #onMessage(message: unknown): void {
    if (!isObject(message)) throw new TypeError('not an object');
    if ('QMP' in message) {
      this.execute('qmp_capabilities').then(
        () => this.#greeting.resolve(),
        (error) => this.#greeting.reject(error),
      );
    } else if (typeof message.event === 'string') {
      const event = { event: message.event, data: isObject(message.data) ? message.data : {} };
      if (this.#lastEvents.size < maxEventKinds) this.#lastEvents.set(event.event, event);
      for (const listener of this.#listeners) listener(event);
    } else {
      this.#onReply(message);
    }
  }

  #onReply(message: Readonly<Record<string, unknown>>): void {
    const id = message.id;
    const pending = typeof id === 'number' ? this.#pending.get(id) : undefined;
    if (pending === undefined) return;
    this.#pending.delete(id as number);
    clearTimeout(pending.timer);
    const error = message.error;
    if (isObject(error)) pending.reject(new QmpError(pending.command, String(error.class), String(error.desc)));
    else pending.resolve(message.return);
  }
}

function timedOut(): BerthError {
  return new BerthError('deadline_exceeded', { operation: 'The VM monitor' });
}

/** True for JSON objects. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
