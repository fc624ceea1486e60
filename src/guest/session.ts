/** One HTTP/2 session with a guest, and the failures it maps to. */

import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';

import { BerthError } from '../common/errors.ts';
import { beginSession, beginSessionAhead, type SessionStream } from './channel.ts';
import type { OpenChannel } from './guest.ts';
import { SESSION_WINDOW, sessionOptions } from './limits.ts';

/** Longest error text taken from a guest, which is not trusted. */
const MAX_ERROR_TEXT = 512;

export class GuestSession {
  readonly #http2: ClientHttp2Session;
  readonly #channel: SessionStream;
  #longRequests = 0;

  private constructor(http2: ClientHttp2Session, channel: SessionStream) {
    this.#http2 = http2;
    this.#channel = channel;
    // The streams report what went wrong to whoever is concerned.
    http2.on('error', () => {});
    // A guest that sends garbage right away has ended the session before it is told of.
    http2.on('connect', () => {
      if (!http2.destroyed) http2.setLocalWindowSize(SESSION_WINDOW);
    });
    http2.on('goaway', () => this.close());
    channel.once('broken', () => this.close());
  }

  /**
   * Rejects with `guest_unavailable` when no session comes about.
   *
   * @param isAhead requests may be made before the guest has answered
   */
  static async open(openChannel: OpenChannel, signal: AbortSignal, isAhead = false): Promise<GuestSession> {
    try {
      const raw = await openChannel();
      if (signal.aborted) {
        raw.destroy();
        throw signal.reason;
      }
      const channel = isAhead ? beginSessionAhead(raw) : await beginSession(raw, signal);
      if (channel.isBroken) throw new Error('the channel broke at once');
      return new GuestSession(connect('http://guest', { ...sessionOptions, createConnection: () => channel }), channel);
    } catch (error) {
      throw new BerthError('guest_unavailable', {}, error);
    }
  }

  get usable(): boolean {
    return !this.#http2.closed && !this.#http2.destroyed;
  }

  /** Operations under way that last as long as their caller likes. */
  get longRequests(): number {
    return this.#longRequests;
  }

  /** Begins an operation; `parameters` is the start of its body, which stays open for input. */
  request(path: string, parameters: Buffer, isLong: boolean): ClientHttp2Stream {
    const stream = this.#http2.request({ ':method': 'POST', ':path': path }, { endStream: false });
    // Whoever waits for its answer is told of the failure; until somebody does, it is no reason for the daemon to end.
    stream.on('error', () => {});
    this.#channel.expectAnswer();
    if (isLong) this.#countUntilOver(stream);
    stream.write(parameters);
    return stream;
  }

  /** Over when the guest has said its last; what is left then is to close the stream. */
  #countUntilOver(stream: ClientHttp2Stream): void {
    const over = () => {
      stream.off('end', over).off('close', over);
      this.#longRequests--;
    };
    this.#longRequests++;
    stream.on('end', over).on('close', over);
  }

  close(): void {
    // With an error: without one Node ends the streams as if the guest had, and what there is of a body looks whole.
    if (!this.#http2.destroyed) this.#http2.destroy(new Error('the session was let go of'), constants.NGHTTP2_CANCEL);
    this.#channel.destroy();
  }
}

/** Why a stream ended without its answer. */
export function streamFailure(stream: ClientHttp2Stream, cause?: unknown): BerthError {
  // A refused stream was, by the protocol, not looked at; anything else may have been acted on.
  const code = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM ? 'guest_unavailable' : 'guest_interrupted';
  return new BerthError(code, {}, cause ?? new Error(`stream ended with code ${stream.rstCode}`));
}

/** What a guest says went wrong, fit to be shown: bounded, and without what would steer a terminal or turn text around. */
export function guestText(text: string): string {
  return text.slice(0, MAX_ERROR_TEXT).replace(/[\p{C}\u2028\u2029]/gu, '?');
}

/** The error an answer with this status stands for. */
function answeredError(status: number, text: string): BerthError {
  const reason = guestText(text) || `status ${status}`;
  if (status === 413) return new BerthError('payload_too_large', {}, new Error(reason));
  if (status === 501) return new BerthError('unsupported', { feature: reason });
  if (status === 503) return new BerthError('guest_unavailable', {}, new Error(reason));
  if (status === 400 || status === 507) return new BerthError('guest_rejected', { reason });
  return new BerthError('internal', {}, new Error(`guest answered ${status}: ${reason}`));
}

/**
 * Ends an operation that nobody waits for any more. Always by closing: destroying a stream that has output waiting leaves
 * Node without the reset to send, and with a frame that never ends.
 */
export function cancel(stream: ClientHttp2Stream): void {
  if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
}

/** Reads a short body to its end. Rejects when the stream breaks off or holds more than `limit` bytes. */
export function readBody(stream: ClientHttp2Stream, limit: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  let length = 0;
  stream.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length <= limit) chunks.push(chunk);
    else cancel(stream);
  });
  stream.on('end', () => {
    if (!endedCleanly(stream)) return;
    resolve(Buffer.concat(chunks));
    // Input that the guest did not wait for is not sent any more.
    if (!stream.writableFinished) cancel(stream);
  });
  stream.on('close', () => reject(streamFailure(stream)));
  return promise;
}

/** Whether a stream's `end` is the guest's: a reset ends the readable side as well, but leaves a code. */
export function endedCleanly(stream: ClientHttp2Stream): boolean {
  return (stream.rstCode ?? constants.NGHTTP2_NO_ERROR) === constants.NGHTTP2_NO_ERROR;
}

/**
 * Waits for the answer's status. When it is 200, `take` is called at once, since the stream may close in the same turn of
 * the event loop, and its result is the promise's. Rejects with what another status stands for, or `guest_interrupted`
 * when none comes.
 */
export function awaitAnswer<T>(stream: ClientHttp2Stream, take: () => T | Promise<T>): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  let answered = false;
  stream.once('response', (headers) => {
    answered = true;
    const status = Number(headers[':status']);
    if (status === 200) {
      resolve(take());
      return;
    }
    readBody(stream, MAX_ERROR_TEXT).then(
      (body) => reject(answeredError(status, body.toString('utf8'))),
      () => reject(answeredError(status, '')),
    );
  });
  // An error event without a listener would end the process; after the answer the body's reader tells of failures.
  stream.on('error', (error) => {
    if (!answered) reject(streamFailure(stream, error));
  });
  stream.once('close', () => {
    if (!answered) reject(streamFailure(stream));
  });
  return promise;
}
