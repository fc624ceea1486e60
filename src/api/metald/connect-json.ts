/**
 * Unary calls of the Connect protocol in JSON: curl's way in, and the one whose replies have two styles. All other
 * protocols are the library's (`protocols.ts`).
 */

import { Code, ConnectError } from '@connectrpc/connect';
import type { Authenticator } from './auth.ts';
import { pack, readText } from './body.ts';
import type { Call } from './calls.ts';
import { errorJson, toConnectError } from './errors.ts';
import { headersOf } from './headers.ts';
import { httpStatus } from './http-status.ts';
import { type JsonStyle, type JsonWriter, readJson } from './json.ts';
import type { WireRequest, WireResponse } from './server.ts';
import { longestTimerMs } from './timeouts.ts';

/** Replies below this size are not packed, bytes. */
const packFrom = 1024;
/** The longest time a client may give a call, as the protocol has it: ten digits, ms. */
const timeoutPattern = /^\d{1,10}$/;

export interface ConnectJsonOptions {
  readonly authenticator: Authenticator;
  readonly style: JsonStyle;
  readonly writer: JsonWriter;
}

/** Answers a call. `text` is its message where that is not the body. */
export async function serveConnectJson(
  call: Call,
  request: WireRequest,
  response: WireResponse,
  { authenticator, style, writer }: ConnectJsonOptions,
  text?: string,
): Promise<void> {
  let status = 200;
  let reply: string;
  try {
    const caller = await authenticator.authenticate(headersOf(request));
    requireVersion(request);
    const timeoutMs = timeoutOf(request);
    const message = readJson(call.input, text ?? (await readText(request)));
    const result = call.run(message, caller);
    const output = result instanceof Promise ? await within(result, timeoutMs) : result;
    reply = writer.write(call.output, output);
  } catch (failure) {
    const error = toConnectError(failure, {});
    status = httpStatus(error.code, style);
    reply = JSON.stringify(errorJson(error));
  }
  await send(request, response, status, reply);
}

function requireVersion(request: WireRequest): void {
  const version = request.headers['connect-protocol-version'];
  if (version === undefined || version === '1') return;
  throw new ConnectError(
    `Connect-Protocol-Version must be "1": got "${String(version).slice(0, 50)}"`,
    Code.InvalidArgument,
  );
}

function timeoutOf(request: WireRequest): number | null {
  const text = request.headers['connect-timeout-ms'];
  if (text === undefined || text === '') return null;
  if (typeof text !== 'string' || !timeoutPattern.test(text))
    throw new ConnectError('protocol error: invalid Connect-Timeout-Ms', Code.InvalidArgument);
  return Math.min(Number(text), longestTimerMs);
}

/** Waits for a result no longer than the client does. What was begun goes on: a VM is not left half-made. */
function within<T>(result: Promise<T>, timeoutMs: number | null): Promise<T> {
  if (timeoutMs === null) return result;
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new ConnectError('the operation timed out', Code.DeadlineExceeded)), timeoutMs);
  return Promise.race([result, promise]).finally(() => clearTimeout(timer));
}

async function send(request: WireRequest, response: WireResponse, status: number, text: string): Promise<void> {
  const headers: Record<string, string | number> = {
    'content-type': (status === 200 && request.headers['content-type']) || 'application/json',
    'accept-encoding': 'gzip',
  };
  let body: string | Buffer = text;
  if (text.length >= packFrom && takesGzip(request)) {
    body = await pack(text);
    headers['content-encoding'] = 'gzip';
    headers.vary = 'accept-encoding';
  }
  headers['content-length'] = Buffer.byteLength(body);
  // What the client still sends of a request that is answered already is nobody's: the connection cannot be used again.
  if (!request.complete && request.httpVersionMajor === 1) headers.connection = 'close';
  response.writeHead(status, headers);
  response.end(body);
}

function takesGzip(request: WireRequest): boolean {
  const header = String(request.headers['accept-encoding'] ?? '');
  return header.split(',').some((item) => {
    const [name = '', ...parameters] = item.split(';').map((part) => part.trim());
    return (name === 'gzip' || name === '*') && !parameters.some((parameter) => /^q=0(?:\.0*)?$/.test(parameter));
  });
}
