import type { IncomingMessage, ServerResponse } from 'node:http';
import { BerthError } from '../../common/errors.ts';
import { readBody } from './body.ts';
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
  let body: Buffer;
  try {
    body = await readBody(request, maxBytes);
  } catch (error) {
    if (!(error instanceof BerthError)) throw error;
    const encoding = encodingOf({ method, query, contentType, body: new Uint8Array() });
    sendReply(response, errorReply(error, encoding));
    return;
  }
  sendReply(response, await dispatch({ method, name, query, contentType, body }, context));
}

export function sendReply(response: ServerResponse, { status, contentType, body }: PrpcReply): void {
  response.writeHead(status, { 'content-type': contentType, 'content-length': body.length });
  // Text goes out in one piece with the headers.
  if (typeof body === 'string') response.end(body, 'latin1');
  else response.end(body);
}
