import { isUtf8 } from 'node:buffer';
import { BerthError, toBerthError } from '../../common/errors.ts';
import { readBinary } from './binary.ts';
import { DecodeError } from './decode-error.ts';
import { readJson } from './json.ts';
import { type AnyMessage, Empty, emptyMessage } from './message.ts';
import { type Encoding, type EncodingHints, encodingOf } from './negotiate.ts';
import { readQuery } from './query.ts';
import { errorReply, messageReply, type PrpcReply } from './reply.ts';
import type { Handlers, Rpc, Service } from './service.ts';

/** A request whose body has arrived. */
export interface PrpcRequest extends EncodingHints {
  readonly method: 'GET' | 'POST';
  /** The last segment of the path, decoded: `GetKey` or `Worker.GetKey`. */
  readonly name: string;
}

export interface DispatchOptions {
  /** Prefixes that may stand before a method's name, any number of times: `['Worker.']`. */
  readonly prefixes?: readonly string[];
  /** Told of every failure; those of which the client sees no reason have the cause. */
  readonly onError?: (method: string, error: BerthError) => void;
}

/** Answers one request; never rejects. */
export type Dispatch<C> = (request: PrpcRequest, context: C) => Promise<PrpcReply>;

/** Joins a service's description to its handlers. */
export function createDispatch<S extends Service, C>(
  service: S,
  handlers: Handlers<S, C>,
  { prefixes = [], onError = () => {} }: DispatchOptions = {},
): Dispatch<C> {
  return async (request, context) => {
    const encoding = encodingOf(request);
    const name = withoutPrefixes(request.name, prefixes);
    try {
      if (!Object.hasOwn(service, name)) throw new BerthError('method_not_found', { name: name.slice(0, 100) });
      const method = service[name]!;
      const handle = handlers[name]! as (message: AnyMessage, context: C) => AnyMessage | Promise<AnyMessage>;
      const reply = await handle(readRequest(method, request, encoding), context);
      return messageReply(method.output, reply, encoding);
    } catch (thrown) {
      const error = toBerthError(thrown);
      onError(Object.hasOwn(service, name) ? name : '', error);
      return errorReply(error, encoding);
    }
  };
}

function withoutPrefixes(name: string, prefixes: readonly string[]): string {
  let rest = name;
  for (;;) {
    const prefix = prefixes.find((each) => each !== '' && rest.startsWith(each));
    if (prefix === undefined) return rest;
    rest = rest.slice(prefix.length);
  }
}

function readRequest({ input }: Rpc, { method, query, body }: PrpcRequest, encoding: Encoding): AnyMessage {
  if (input === Empty) return {};
  if (method === 'GET') return readQuery(input, query);
  if (body.length === 0) return emptyMessage(input);
  if (encoding === 'protobuf') return readBinary(input, body);
  return readJson(input, decodeUtf8(body));
}

/** Refuses what is not UTF-8: put in its place, one character would make different texts the same. */
function decodeUtf8(body: Uint8Array): string {
  if (!isUtf8(body)) throw new DecodeError('the request is not UTF-8');
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
}
