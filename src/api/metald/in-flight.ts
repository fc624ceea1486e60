/** Requests whose replies are not gone yet: how many a connection may have, and how long their readers may take. */

import type { Http2ServerRequest } from 'node:http2';
import type { WireRequest, WireResponse } from './server.ts';

/** Requests of one connection at a time: pipelined by HTTP/1.1, or streams of HTTP/2. */
export const maxInFlight = 32;

interface Reply {
  readonly request: WireRequest;
  readonly response: WireResponse;
  /** When it was first seen written and not gone, ms of a clock that never goes back. */
  writtenAt: number | null;
}

/** Cuts connections whose client sends requests and does not read the replies: they are held in memory until it does. */
export class InFlight {
  readonly #replies = new Set<Reply>();
  readonly #ofConnection = new WeakMap<object, number>();
  readonly #drainTimeoutMs: number;
  readonly #timer: NodeJS.Timeout;

  /** `drainTimeoutMs`: how long a whole reply may take on its way to the client. */
  constructor(drainTimeoutMs: number) {
    this.#drainTimeoutMs = drainTimeoutMs;
    this.#timer = setInterval(() => this.#cutStuck(), drainTimeoutMs / 4).unref();
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
    const reply: Reply = { request, response, writtenAt: null };
    this.#replies.add(reply);
    response.once('close', () => {
      this.#replies.delete(reply);
      if (isHttp1) this.#ofConnection.set(socket, (this.#ofConnection.get(socket) ?? 1) - 1);
    });
    return true;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #cutStuck(): void {
    const now = performance.now();
    for (const reply of this.#replies) {
      // A reply of HTTP/1.1 has no socket before its turn: those before it may take their time.
      if (!reply.response.writableEnded || !reply.response.socket) continue;
      reply.writtenAt ??= now;
      if (now - reply.writtenAt >= this.#drainTimeoutMs) cut(reply.request);
    }
  }
}

/** The whole connection: what a request of HTTP/2 calls its socket is its stream alone. */
function cut(request: WireRequest): void {
  if (request.httpVersionMajor === 1) request.socket.destroy();
  else (request as unknown as Http2ServerRequest).stream.session?.destroy();
}
