import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { sendReply } from '../api/prpc/http.ts';
import { errorReply } from '../api/prpc/reply.ts';
import { BerthError, toBerthError } from '../common/errors.ts';
import type { AgentLog } from './log.ts';

/** A request on its way to what answers it. */
export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Segments of the path, decoded. `/` has none. */
  readonly path: readonly string[];
  /** Without the question mark. */
  readonly query: string;
}

/** Answers a request and resolves to true, or leaves it alone and resolves to false. */
export type Route = (exchange: Exchange) => Promise<boolean>;

export interface ServerBounds {
  /** Connections it holds at a time; more are closed. Default 1024. */
  readonly connections?: number;
  /** Milliseconds after which a connection ends on which nothing moves, such as one whose reply is not read. Default 120,000. */
  readonly idleMs?: number;
}

/** An HTTP server that tries routes in order. Failures are answered in JSON. */
export function createHttpServer(
  routes: readonly Route[],
  log: AgentLog,
  { connections = 1024, idleMs = 120_000 }: ServerBounds = {},
): Server {
  const handle: RequestListener = (request, response) => {
    answer(routes, request, response).catch((thrown: unknown) => {
      const error = toBerthError(thrown);
      if (!request.complete && request.destroyed) log.debug({}, 'a sender went away in the middle of its request');
      else if (error.code === 'internal') log.error({ err: error.cause }, 'request failed');
      if (response.headersSent || response.destroyed) response.destroy();
      else sendReply(response, errorReply(error, 'json'));
    });
  };
  const server = createServer({ requestTimeout: 60_000, maxHeaderSize: 32 * 1024 }, handle);
  server.maxConnections = connections;
  server.setTimeout(idleMs);
  // A sender that closes its half, as nc does, still gets the replies that it waits for. Not in the types, as not in the manual.
  Object.assign(server, { httpAllowHalfOpen: true });
  return server;
}

async function answer(routes: readonly Route[], request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [rawPath = '', query = ''] = splitOnce(request.url ?? '/', '?');
  const exchange = { request, response, path: decodePath(rawPath), query };
  for (const route of routes) if (await route(exchange)) return;
  throw new BerthError('route_not_found');
}

function splitOnce(text: string, separator: string): [string, string?] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decodePath(path: string): string[] {
  try {
    const segments = path.split('/').filter((segment) => segment !== '');
    return path.includes('%') ? segments.map(decodeURIComponent) : segments;
  } catch {
    throw new BerthError('invalid_argument', { reason: 'the path is not valid' });
  }
}
