import { request } from 'node:http';
import { buffer } from 'node:stream/consumers';

export interface UnixReply {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly text: string;
  json(): Record<string, unknown>;
}

/** One HTTP call over a unix socket; a body is sent as JSON. */
export async function unixFetch(socketPath: string, path: string, body?: unknown): Promise<UnixReply> {
  const { promise, resolve, reject } = Promise.withResolvers<import('node:http').IncomingMessage>();
  const content = body === undefined ? '' : JSON.stringify(body);
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(content) };
  const method = body === undefined ? 'GET' : 'POST';
  const sent = request({ socketPath, path, method, agent: false, ...(body === undefined ? {} : { headers }) }, resolve);
  sent.on('error', reject);
  sent.end(content);
  const reply = await promise;
  const text = (await buffer(reply)).toString('utf8');
  return { status: reply.statusCode!, headers: reply.headers, text, json: () => JSON.parse(text) };
}
