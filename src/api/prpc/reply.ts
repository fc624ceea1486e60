import type { BerthError } from '../../common/errors.ts';
import { writeBinary } from './binary.ts';
import { asciiJson, writeJson } from './json.ts';
import { type AnyMessage, field, type MessageType, message } from './message.ts';
import { contentTypes, type Encoding } from './negotiate.ts';

/** A whole reply. Senders give its length: clients exist that read nothing else. */
export interface PrpcReply {
  readonly status: number;
  readonly contentType: string;
  /** Text in ASCII, so of as many bytes as characters, or bytes. */
  readonly body: string | Buffer;
}

const PrpcError = message('prpc.PrpcError', { message: field(1, 'string') });

export function messageReply(type: MessageType, value: AnyMessage, encoding: Encoding): PrpcReply {
  const body = encoding === 'json' ? writeJson(type, value) : writeBinary(type, value);
  return { status: 200, contentType: contentTypes[encoding], body };
}

/** A failure under both keys that clients look for: `error` and `message`. */
export function errorReply(error: BerthError, encoding: Encoding): PrpcReply {
  const { http: status, message } = error;
  const body =
    encoding === 'json'
      ? asciiJson(JSON.stringify({ error: message, message }, null, 2))
      : writeBinary(PrpcError, { message });
  return { status, contentType: contentTypes[encoding], body };
}
