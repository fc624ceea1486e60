/** One port for HTTP/1.1 and HTTP/2, with TLS or without: what a connection speaks is seen in its first bytes. */

import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import { createServer } from '../../common/node-http.ts';
import type { Certificate } from './certificate.ts';
import { InFlight, maxInFlight } from './in-flight.ts';

/** Of either version: Node gives HTTP/2's the members of HTTP/1's. */
export type WireRequest = IncomingMessage;
export type WireResponse = ServerResponse;
export type WireHandler = (request: WireRequest, response: WireResponse) => void;

/** What every HTTP/2 connection begins with; no HTTP/1 request has the method PRI. */
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** How long a connection may take to say what it speaks, ms. */
const sniffTimeoutMs = 10_000;
/** How long a client may take to send a request, ms. */
const defaultRequestTimeoutMs = 30_000;
/** How long a connection may be without a request, ms. */
const idleTimeoutMs = 120_000;
/** How long a client may take to read a reply that is written, ms. */
const defaultDrainTimeoutMs = 30_000;
/** Connections at a time. */
const defaultMaxConnections = 1024;

export interface DualServer {
  /** Listens, counts connections, and answers HTTP/1.1. */
  readonly server: Server;
  /** Ends connections that do nothing; resolves when all have ended. */
  close(): Promise<void>;
  /** Cuts every connection. */
  closeAllConnections(): void;
}

export interface DualServerOptions {
  /** Null: without TLS. */
  readonly certificate?: Certificate | null;
  /** Those beyond are closed as they come. */
  readonly maxConnections?: number;
  readonly requestTimeoutMs?: number;
  readonly drainTimeoutMs?: number;
}

/** A server that does not listen yet. Requests of both versions go to `handler`. */
export function createDualServer(
  handler: WireHandler,
  {
    certificate = null,
    maxConnections = defaultMaxConnections,
    requestTimeoutMs = defaultRequestTimeoutMs,
    drainTimeoutMs = defaultDrainTimeoutMs,
  }: DualServerOptions = {},
): DualServer {
  const server = createHttpServer(certificate, requestTimeoutMs);
  server.maxConnections = maxConnections;
  const http2 = createHttp2Server({
    settings: { maxConcurrentStreams: maxInFlight, maxHeaderListSize: 32 * 1024, enablePush: false },
    maxSessionMemory: 16,
    maxSessionInvalidFrames: 100,
  });
  const inFlight = new InFlight({ requestTimeoutMs, drainTimeoutMs });
  const serve: WireHandler = (request, response) => {
    if (inFlight.admit(request, response)) handler(request, response);
  };
  server.on('request', serve);
  http2.on('request', (request, response) => serve(request as never, response as never));
  const sessions = new Set<ServerHttp2Session>();
  const sniffing = new Set<Socket>();
  http2.on('session', (session) => {
    sessions.add(session);
    session.setTimeout(idleTimeoutMs, () => session.close());
    session.once('close', () => sessions.delete(session));
  });
  // A client that breaks the protocol ends its own connection only.
  http2.on('sessionError', (_error, session) => session.destroy());

  const connected = certificate === null ? 'connection' : 'secureConnection';
  const speakHttp1 = server.listeners(connected) as ((socket: Socket) => void)[];
  server.removeAllListeners(connected);
  server.on(connected, (socket: Socket) => {
    sniffing.add(socket);
    socket.once('close', () => sniffing.delete(socket));
    socket.on('error', destroyQuietly);
    socket.setTimeout(sniffTimeoutMs, () => socket.destroy());
    let seen = Buffer.alloc(0);
    const onReadable = () => {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) return;
      seen = Buffer.concat([seen, chunk]);
      const length = Math.min(seen.length, preface.length);
      const isHttp2 = seen.subarray(0, length).equals(preface.subarray(0, length));
      if (isHttp2 && length < preface.length) return;
      sniffing.delete(socket);
      socket.off('readable', onReadable);
      socket.off('error', destroyQuietly);
      socket.setTimeout(0);
      socket.removeAllListeners('timeout');
      socket.unshift(seen);
      if (isHttp2) http2.emit('connection', socket);
      else for (const listener of speakHttp1) listener.call(server, socket);
    };
    socket.on('readable', onReadable);
  });

  return {
    server,
    async close() {
      const { promise, resolve } = Promise.withResolvers<void>();
      server.close(() => resolve());
      for (const session of sessions) session.close();
      for (const socket of sniffing) socket.destroy();
      await promise;
      inFlight.close();
    },
    closeAllConnections() {
      server.closeAllConnections();
      for (const session of sessions) session.destroy();
      for (const socket of sniffing) socket.destroy();
    },
  };
}

function createHttpServer(certificate: Certificate | null, requestTimeoutMs: number): Server {
  const options = {
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    keepAliveTimeout: idleTimeoutMs,
    noDelay: true,
  };
  if (certificate === null) return createServer(options);
  const https = process.getBuiltinModule('node:https');
  return https.createServer({
    ...options,
    ...certificate,
    ALPNProtocols: ['h2', 'http/1.1'],
    minVersion: 'TLSv1.2',
    handshakeTimeout: sniffTimeoutMs,
  });
}

function destroyQuietly(this: Socket): void {
  this.destroy();
}
