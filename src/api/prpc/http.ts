import type { IncomingMessage, ServerResponse } from 'node:http';
import { BerthError } from '../../common/errors.ts';
import type { Dispatch } from './dispatch.ts';
import { maxBodyBytes, maxHeldBytes, smallBodyBytes } from './limits.ts';
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

/** Of {@link maxHeldBytes}, those that are held now. */
let heldBytes = 0;

/**
 * A body. What is not taken is read and dropped, since a sender that is cut off in the middle would not see the reply; how long
 * that may go on is the server's request timeout.
 *
 * @throws BerthError payload_too_large when it has more than `limit` bytes, quota_exceeded when too much is held already;
 * another Error when the sender goes away
 */
export function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  // By events, and read at once: iterating over a stream, or having it flow, costs more than the rest of a small call.
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  const announced = Number(request.headers['content-length']);
  let size = 0;
  let held = 0;
  let isSettled = false;
  const release = () => {
    heldBytes -= held;
    held = 0;
  };
  const finish = () => {
    if (isSettled) return;
    isSettled = true;
    release();
    resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks));
  };
  const refuse = (error: BerthError) => {
    isSettled = true;
    chunks.length = 0;
    release();
    reject(error);
  };
  const take = (chunk: Buffer) => {
    size += chunk.length;
    const more = Math.max(0, size - smallBodyBytes) - held;
    if (size > limit) return refuse(new BerthError('payload_too_large'));
    if (heldBytes + more > maxHeldBytes)
      return refuse(new BerthError('quota_exceeded', { resource: 'request memory', limit: maxHeldBytes }));
    chunks.push(chunk);
    held += more;
    heldBytes += more;
    if (size === announced) finish();
  };
  request.on('readable', () => {
    for (let chunk = request.read(); chunk !== null; chunk = request.read()) if (!isSettled) take(chunk);
  });
  request.on('end', finish);
  request.on('error', reject);
  request.on('close', () => {
    release();
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
