import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { Code, ConnectError } from '@connectrpc/connect';
import type { WireRequest } from './server.ts';

/**
 * Largest message a client may send, bytes, also after it is unpacked: some times what is kept with a VM. It is taken apart in
 * one go, in which nobody else is served: what that costs is up to the number of its elements, which is bounded as well
 * (`elements.ts`). One of a few bytes each costs a microsecond or two, so that at the bound it is some ten milliseconds; of
 * as many as fit in here it would be half a second.
 */
export const maxMessageBytes = 256 * 1024;

const unpack = promisify(gunzip);
/** Packs a reply. */
export const pack: (data: string) => Promise<Buffer> = promisify(gzip);

/** The whole body as text. Rejects with `resource_exhausted` for one that is too large. */
export async function readText(request: WireRequest): Promise<string> {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity' && encoding !== 'gzip')
    throw new ConnectError(
      `unknown compression "${encoding.slice(0, 50)}": supported encodings are gzip`,
      Code.Unimplemented,
    );
  const body = await readBytes(request);
  if (encoding === 'identity') return body.toString('utf8');
  try {
    return (await unpack(body, { maxOutputLength: maxMessageBytes })).toString('utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge();
    throw new ConnectError('the body is not gzip', Code.InvalidArgument);
  }
}

function readBytes(request: WireRequest): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  if (Number(request.headers['content-length'] ?? 0) > maxMessageBytes) {
    reject(tooLarge());
    return promise;
  }
  const chunks: Buffer[] = [];
  let size = 0;
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > maxMessageBytes) {
      request.pause();
      reject(tooLarge());
    } else chunks.push(chunk);
  });
  let isWhole = false;
  request.on('end', () => {
    isWhole = true;
    resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks));
  });
  request.on('error', () => reject(aborted()));
  request.on('close', () => {
    if (!isWhole) reject(aborted());
  });
  return promise;
}

function tooLarge(): ConnectError {
  return new ConnectError(`message is larger than ${maxMessageBytes} bytes`, Code.ResourceExhausted);
}

function aborted(): ConnectError {
  return new ConnectError('the request was broken off', Code.Canceled);
}
