import type { IncomingMessage, ServerResponse } from 'node:http';
import { BerthError } from '../../common/errors.ts';
import type { Dispatch } from './dispatch.ts';
import { maxBodyBytes } from './limits.ts';
import { encodingOf } from './negotiate.ts';
import { errorReply, type PrpcReply } from './reply.ts';

export interface PrpcCall {
  readonly name: string;
  readonly query: string;
  readonly maxBytes?: number;
}

/**
 * Serves one call of a service over `node:http`.
 * @param name the method as it stands in the path, decoded
 * @param query without the question mark
 * @param maxBytes of the body, for services that need less than the protocol allows
 */
export async function servePrpc<C>(
  dispatch: Dispatch<C>,
  request: IncomingMessage,
  response: ServerResponse,
  { name, query, maxBytes = maxBodyBytes }: PrpcCall,
  context: C,
): Promise<void> {
  const method = request.method === 'GET' ? 'GET' : 'POST';
  const contentType = request.headers['content-type'];
  const body = await readBody(request, maxBytes);
  if (body === null) {
    const encoding = encodingOf({ method, query, contentType, body: new Uint8Array() });
    sendReply(response, errorReply(new BerthError('payload_too_large'), encoding));
  } else sendReply(response, await dispatch({ method, name, query, contentType, body }, context));
}

/**
 * A body of at most `limit` bytes; null when it is longer. What is too much is read and dropped, since a sender that is cut
 * off in the middle would not see the reply; how long that may go on is the server's request timeout. Rejects when the
 * sender goes away.
 */
export function readBody(request: IncomingMessage, limit: number): Promise<Buffer | null> {
  // By events: iterating over a stream costs more than the rest of a small call.
  const { promise, resolve, reject } = Promise.withResolvers<Buffer | null>();
  const chunks: Buffer[] = [];
  let size = 0;
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= limit) chunks.push(chunk);
    else {
      chunks.length = 0;
      resolve(null);
    }
  });
  request.on('end', () => resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks)));
  request.on('error', reject);
  request.on('close', () => {
    if (!request.complete) reject(new Error('the sender went away'));
  });
  return promise;
}

export function sendReply(response: ServerResponse, { status, contentType, body }: PrpcReply): void {
  response.writeHead(status, { 'content-type': contentType, 'content-length': body.length });
  // Text goes out in one piece with the headers.
  if (typeof body === 'string') response.end(body, 'latin1');
  else response.end(body);
}
