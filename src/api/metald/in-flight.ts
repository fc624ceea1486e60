/**
 * Requests whose replies are not gone yet: how many a connection may have, and how long their clients may take to send the
 * one and to read the other.
 */

import { constants, type Http2ServerRequest } from 'node:http2';
import type { WireRequest, WireResponse } from './server.ts';

/** Requests of one connection at a time: pipelined by HTTP/1.1, or streams of HTTP/2. */
export const maxInFlight = 32;

/** A request and its reply, until the reply is gone. */
interface Exchange {
  readonly request: WireRequest;
  readonly response: WireResponse;
  /** When the request came, ms of a clock that never goes back. */
  readonly since: number;
  /** When the reply was first seen written and not gone, ms of a clock that never goes back. */
  writtenAt: number | null;
}

export interface InFlightLimits {
  /** How long a whole request may take to come, ms. */
  readonly requestTimeoutMs: number;
  /** How long a whole reply may take on its way to the client, ms. */
  readonly drainTimeoutMs: number;
}

/**
 * Cuts connections whose client sends requests and does not read the replies, and streams whose request does not end: both are
 * held in memory until then. (Requests of HTTP/1.1 that do not end are cut by Node.)
 */
export class InFlight {
  readonly #exchanges = new Set<Exchange>();
  readonly #ofConnection = new WeakMap<object, number>();
  readonly #limits: InFlightLimits;
  readonly #timer: NodeJS.Timeout;

  constructor(limits: InFlightLimits) {
    this.#limits = limits;
    const shortest = Math.min(limits.requestTimeoutMs, limits.drainTimeoutMs);
    this.#timer = setInterval(() => this.#cutStuck(), shortest / 4).unref();
  }

  /** False when the connection has too many already, and was cut. HTTP/2 counts its streams itself. */
  admit(request: WireRequest, response: WireResponse): boolean {
    const { socket } = request;
    const isHttp1 = request.httpVersionMajor === 1;
    const count = isHttp1 ? (this.#ofConnection.get(socket) ?? 0) : 0;
    if (count >= maxInFlight) {
      socket.destroy();
      return false;
    }
    if (isHttp1) this.#ofConnection.set(socket, count + 1);
    const exchange: Exchange = { request, response, since: performance.now(), writtenAt: null };
    this.#exchanges.add(exchange);
    response.once('close', () => {
      this.#exchanges.delete(exchange);
      if (isHttp1) this.#ofConnection.set(socket, (this.#ofConnection.get(socket) ?? 1) - 1);
    });
    return true;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #cutStuck(): void {
    const now = performance.now();
    const { requestTimeoutMs, drainTimeoutMs } = this.#limits;
    for (const exchange of this.#exchanges) {
      if (!exchange.request.complete && now - exchange.since >= requestTimeoutMs) endStream(exchange.request);
      // A reply of HTTP/1.1 has no socket before its turn: those before it may take their time.
      if (!exchange.response.writableEnded || !exchange.response.socket) continue;
      exchange.writtenAt ??= now;
      if (now - exchange.writtenAt >= drainTimeoutMs) cut(exchange.request);
    }
  }
}

/** The whole connection: what a request of HTTP/2 calls its socket is its stream alone. */
function cut(request: WireRequest): void {
  if (request.httpVersionMajor === 1) request.socket.destroy();
  else (request as unknown as Http2ServerRequest).stream.session?.destroy();
}

/** Other calls on the connection go on. */
function endStream(request: WireRequest): void {
  if (request.httpVersionMajor === 2) (request as unknown as Http2ServerRequest).stream.close(constants.NGHTTP2_CANCEL);
}
