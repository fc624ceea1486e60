/** The guest client: lazily keeps one session to guest-init and runs operations on it. */

import type { ClientHttp2Stream } from 'node:http2';
import type { Duplex, Readable } from 'node:stream';

import { BerthError } from '../common/errors.ts';
import { unless, untilAnswered } from './attempts.ts';
import { GuestBody } from './body.ts';
import { encodeExec, RunningExec } from './exec.ts';
import type {
  GuestClient,
  GuestConnectTarget,
  GuestExec,
  GuestExecRequest,
  GuestHello,
  GuestIdentified,
  GuestIdentity,
  GuestUploadOptions,
  GuestUse,
  OpenChannel,
} from './guest.ts';
import { identify, setClock } from './identify.ts';
import { decodeHello } from './identity.ts';
import { MAX_LONG_REQUESTS } from './limits.ts';
import { Parameters, PROTOCOL_VERSION, tag } from './protocol.ts';
import { awaitAnswer, cancel, GuestSession, readBody } from './session.ts';

export interface GuestClientOptions {
  /** Milliseconds an operation waits for a session when there is none; default 10 000. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds a short operation (all but exec, tar streams and connections) may take; default 60 000. */
  readonly operationTimeoutMs?: number;
  /** Told of every request. */
  readonly use?: GuestUse;
}

/** After this long without an echo the channel is opened anew. */
const ATTEMPT_MS = 15_000;
const MAX_ANSWER = 4096;

export function createGuestClient(openChannel: OpenChannel, options: GuestClientOptions = {}): GuestClient {
  return new Http2GuestClient(openChannel, options);
}

class Http2GuestClient implements GuestClient {
  readonly #openChannel: OpenChannel;
  readonly #connectTimeoutMs: number;
  readonly #operationTimeoutMs: number;
  readonly #use: GuestUse | null;
  #session: GuestSession | null = null;
  #opening: Promise<GuestSession> | null = null;
  readonly #closed = new AbortController();

  constructor(openChannel: OpenChannel, options: GuestClientOptions) {
    this.#openChannel = openChannel;
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 10_000;
    this.#operationTimeoutMs = options.operationTimeoutMs ?? 60_000;
    this.#use = options.use ?? null;
  }

  ready(timeoutMs: number, signal?: AbortSignal): Promise<GuestHello> {
    const deadline = Date.now() + timeoutMs;
    return untilAnswered(this.#over(timeoutMs, signal), async () => {
      await this.#ensureSession();
      return this.#hello(Math.max(1, deadline - Date.now()));
    });
  }

  async configure(identity: GuestIdentity): Promise<GuestIdentified> {
    const { diskBytes = 0 } = identity;
    return identify(this.#unused, identity, diskBytes, performance.now());
  }

  become(identity: GuestIdentity, timeoutMs: number, signal?: AbortSignal): Promise<GuestIdentified> {
    const begun = performance.now();
    const { diskBytes = null } = identity;
    const over = this.#over(timeoutMs, signal);
    return untilAnswered(over, async () => {
      this.#session?.close();
      const session = await GuestSession.open(this.#openChannel, over, true);
      this.#session = session;
      try {
        const identified = await unless(over, identify(this.#unused, identity, diskBytes, begun));
        spokenWith(identified.hello);
        return identified;
      } catch (error) {
        // The guest may never have seen the session's beginning: nobody else is to use it.
        session.close();
        throw error;
      }
    });
  }

  async setClock(timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    await this.#sessionInTime(timeoutMs);
    await setClock((path, parameters) => this.#unused(path, parameters, Math.max(1, deadline - Date.now())));
  }

  exec(request: GuestExecRequest): GuestExec {
    const opened = async (): Promise<ClientHttp2Stream> => this.#beginLong('/exec', encodeExec(request));
    return new RunningExec(opened(), request);
  }

  async uploadTar(dest: string, tar: Readable, options: GuestUploadOptions): Promise<void> {
    const stream = await this.#beginLong('/tar-in', placeParameters(dest, options)).catch((error: unknown) => {
      tar.destroy();
      throw error;
    });
    // Piped by hand: `pipeline` would destroy the stream, and what is to end here is the request, by its protocol.
    let sourceError: Error | null = null;
    tar.once('error', (error) => {
      sourceError = error;
      cancel(stream);
    });
    tar.once('close', () => {
      if (!tar.readableEnded) cancel(stream);
    });
    // A guest that takes nothing any more must not hold on to the archive for ever.
    let isStuck = false;
    const timer = setTimeout(() => {
      isStuck = true;
      // What is cancelled takes everything at once, and drops it.
      tar.unpipe(stream).pause();
      cancel(stream);
    }, this.#operationTimeoutMs);
    tar.on('data', () => timer.refresh());
    tar.pipe(stream);
    try {
      // The guest may answer, with an error, before it has all of the archive.
      await awaitAnswer(stream, () => readBody(stream, MAX_ANSWER));
    } catch (error) {
      if (isStuck) throw new BerthError('deadline_exceeded', { operation: 'The upload' }, error);
      throw sourceError ?? error;
    } finally {
      clearTimeout(timer);
      tar.unpipe(stream);
      tar.destroy();
    }
  }

  async downloadTar(path: string, options: GuestUploadOptions): Promise<Readable> {
    const stream = await this.#beginLong('/tar-out', placeParameters(path, options));
    stream.end();
    return this.#inTime('download', stream, bodyOf(stream));
  }

  async connect(target: GuestConnectTarget): Promise<Duplex> {
    const parameters = new Parameters();
    if ('unix' in target) parameters.add(tag.path, target.unix);
    else parameters.add(tag.port, target.port);
    const stream = await this.#beginLong('/connect', parameters.encode());
    return this.#inTime('connect', stream, bodyOf(stream));
  }

  async sync(): Promise<void> {
    await this.#call('/sync', new Parameters());
  }

  async freeze(maxMs: number, timeoutMs?: number): Promise<void> {
    await this.#call('/freeze', new Parameters().add(tag.timeoutMs, Math.ceil(maxMs)), timeoutMs);
  }

  async thaw(timeoutMs?: number): Promise<void> {
    await this.#call('/thaw', new Parameters(), timeoutMs);
  }

  async powerOff(): Promise<void> {
    await this.#call('/power-off', new Parameters());
  }

  async reboot(): Promise<void> {
    await this.#call('/reboot', new Parameters());
  }

  close(): void {
    this.#closed.abort();
    this.#session?.close();
    this.#session = null;
  }

  #over(timeoutMs: number, signal?: AbortSignal): AbortSignal {
    return AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#closed.signal, ...(signal ? [signal] : [])]);
  }

  async #hello(timeoutMs: number): Promise<GuestHello> {
    return spokenWith(decodeHello(await this.#call('/hello', new Parameters(), timeoutMs)));
  }

  /** A request with a short answer that is no use of the guest but part of bringing it up. */
  readonly #unused = async (path: string, parameters: Parameters, timeoutMs?: number): Promise<Buffer> =>
    this.#shortAnswer(path.slice(1), await this.#send(path, parameters.encode(), false), timeoutMs);

  /** A request with a short answer. */
  async #call(path: string, parameters: Parameters, timeoutMs = this.#operationTimeoutMs): Promise<Buffer> {
    return this.#shortAnswer(path.slice(1), await this.#begin(path, parameters.encode()), timeoutMs);
  }

  #shortAnswer(operation: string, stream: ClientHttp2Stream, timeoutMs?: number): Promise<Buffer> {
    stream.end();
    const answer = awaitAnswer(stream, () => readBody(stream, MAX_ANSWER));
    return this.#inTime(operation, stream, answer, timeoutMs);
  }

  /** Waits for an answer but not for ever: then the stream is closed, which ends the work in the guest. */
  async #inTime<T>(
    operation: string,
    stream: ClientHttp2Stream,
    answer: Promise<T>,
    timeoutMs = this.#operationTimeoutMs,
  ): Promise<T> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      cancel(stream);
    }, timeoutMs);
    try {
      return await answer;
    } catch (error) {
      throw late ? new BerthError('deadline_exceeded', { operation: `guest ${operation}` }, error) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a request. Failures up to here are `guest_unavailable`: nothing has reached the guest. */
  async #begin(path: string, parameters: Buffer, isLong = false): Promise<ClientHttp2Stream> {
    const use = this.#use;
    if (use === null) return this.#send(path, parameters, isLong);
    try {
      await use.begin();
    } catch (error) {
      throw new BerthError('guest_unavailable', {}, error);
    }
    try {
      const stream = await this.#send(path, parameters, isLong);
      stream.once('close', () => use.end());
      return stream;
    } catch (error) {
      use.end();
      throw error;
    }
  }

  async #send(path: string, parameters: Buffer, isLong: boolean): Promise<ClientHttp2Stream> {
    const session = this.#session?.usable ? this.#session : await this.#sessionInTime();
    // More would wait in a queue where no time limit counts.
    if (isLong && session.longRequests >= MAX_LONG_REQUESTS)
      throw new BerthError('guest_busy', { limit: MAX_LONG_REQUESTS });
    try {
      return session.request(path, parameters, isLong);
    } catch (error) {
      throw new BerthError('guest_unavailable', {}, error);
    }
  }

  /** As {@link #begin}, for what lasts as long as its caller likes. Throws `guest_busy` when there are too many already. */
  #beginLong(path: string, parameters: Buffer): Promise<ClientHttp2Stream> {
    return this.#begin(path, parameters, true);
  }

  #sessionInTime(timeoutMs = this.#connectTimeoutMs): Promise<GuestSession> {
    const over = AbortSignal.any([AbortSignal.timeout(timeoutMs), this.#closed.signal]);
    return unless(over, this.#ensureSession());
  }

  #ensureSession(): Promise<GuestSession> {
    if (this.#closed.signal.aborted)
      return Promise.reject(new BerthError('guest_unavailable', {}, new Error('client is closed')));
    if (this.#session?.usable) return Promise.resolve(this.#session);
    this.#opening ??= this.#openSession().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #openSession(): Promise<GuestSession> {
    this.#session?.close();
    this.#session = null;
    const over = AbortSignal.any([AbortSignal.timeout(ATTEMPT_MS), this.#closed.signal]);
    const session = await GuestSession.open(this.#openChannel, over);
    this.#session = session;
    return session;
  }
}

function placeParameters(path: string, options: GuestUploadOptions): Buffer {
  return new Parameters()
    .add(tag.root, options.root)
    .add(tag.path, path)
    .add(tag.uid, options.uid)
    .add(tag.gid, options.gid)
    .encode();
}

function bodyOf(stream: ClientHttp2Stream): Promise<GuestBody> {
  return awaitAnswer(stream, () => new GuestBody(stream));
}

/** The guest, unless it speaks another language. That is not worth another try, unlike a guest that is on its way. */
function spokenWith(hello: GuestHello): GuestHello {
  if (hello.protocol !== PROTOCOL_VERSION) {
    throw new BerthError('unsupported', { feature: `guest protocol ${hello.protocol}` });
  }
  return hello;
}
