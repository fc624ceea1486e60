import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { BerthError, toBerthError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { wireState } from './codec.ts';

/** A failure whose text exists only in this dialect. */
export class DialectError extends Error {
  readonly statusCode: number;

  constructor(statusCode: number, message: string) {
    super(message);
    this.name = 'DialectError';
    this.statusCode = statusCode;
  }
}

interface ErrorAnswer {
  readonly status: number;
  readonly message: string;
}

/** Fastify's own failures (validation, body too large, rate limit, …) carry a status below 500 and a text fit to show. */
function isClientFault(error: unknown): error is FastifyError & { readonly statusCode: number } {
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : undefined;
  return typeof status === 'number' && status >= 400 && status < 500;
}

function unsupportedMediaType(request: FastifyRequest): string {
  return `Unsupported Media Type: ${request.headers['content-type'] ?? 'undefined'}`;
}

function berthAnswer(error: BerthError, request: FastifyRequest): ErrorAnswer {
  const traits = request.routeOptions.config.runDatSheesh;
  if (error.code === 'wrong_state' && traits?.needs !== undefined) {
    return {
      status: 409,
      message: `VM must be ${traits.needs} (state=${wireState(String(error.params.state ?? error.params.actual))})`,
    };
  }
  if (error.code === 'vm_not_found' && traits?.vmNotFound !== undefined) {
    return { status: 404, message: traits.vmNotFound };
  }
  return { status: error.http, message: error.message };
}

/** The status and text a client is shown for anything that was thrown. */
function answerFor(error: unknown, request: FastifyRequest): ErrorAnswer {
  // The client went away while it was sending: nobody reads this answer, and nothing here has failed.
  if (request.raw.destroyed && !request.raw.complete) return { status: 400, message: 'Request aborted' };
  if (error instanceof BerthError) return berthAnswer(error, request);
  if (!isClientFault(error)) return berthAnswer(toBerthError(error), request);
  if (error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return { status: 415, message: unsupportedMediaType(request) };
  return { status: error.statusCode, message: error.message };
}

/** Answers a failed request in the one error shape: `{"message"}`, with the request's id from 500 on. */
export function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply, log: Log): void {
  const { status, message } = answerFor(error, request);
  if (status >= 500) {
    log.error({ err: error, requestId: request.id, route: request.routeOptions.url }, 'request failed');
  }
  reply.code(status).type('application/json; charset=utf-8');
  reply.send(JSON.stringify(status >= 500 ? { message, requestId: request.id } : { message }));
}

export function registerErrors(app: FastifyInstance, log: Log): void {
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply, log));
  app.setNotFoundHandler((_request, reply) => {
    reply.code(404).type('application/json; charset=utf-8').send('{"message":"Not Found"}');
  });
}

const brokenRequests: Readonly<Record<string, readonly [status: number, reason: string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, 'Payload Too Large'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout'],
};

/** Answers what is not HTTP, or too much of it, in the same error shape, then closes the connection. */
export function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, reason] = brokenRequests[error.code ?? ''] ?? [400, 'Bad Request'];
  const body = JSON.stringify({ message: reason });
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  );
}
