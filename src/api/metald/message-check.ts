/** Messages of the library's protocols, looked at before it reads them. */

import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { type DescMessage, fromBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { maxMessageBytes } from './body.ts';
import { requireFewInBinary } from './elements.ts';
import { checkJson } from './json.ts';

const unpack = promisify(gunzip);

/** A frame's head: whether the message is packed, and its length. */
const headBytes = 5;

/** How a message stands in a request's body. */
export interface MessageForm {
  readonly desc: DescMessage;
  readonly isJson: boolean;
  /** In a frame, as gRPC and gRPC-Web have it; else the body is the message. */
  readonly isFramed: boolean;
  /** The whole body is gzip. A frame says that itself. */
  readonly isPacked: boolean;
}

/**
 * The body of a unary call, once it is known that its message is one, and has no more in it than is taken apart in no time. The
 * library calls it a failure of the server when it is none, in binary; in JSON it leaves unknown names of enums out of lists,
 * as it does unknown fields. What is wrong with a body otherwise is the library's to say.
 */
export async function* checkMessage(
  body: AsyncIterable<Uint8Array>,
  form: MessageForm,
): AsyncGenerator<Uint8Array, void, void> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > headBytes + maxMessageBytes)
      throw new ConnectError(`message is larger than ${maxMessageBytes} bytes`, Code.ResourceExhausted);
    chunks.push(chunk);
  }
  const whole = Buffer.concat(chunks);
  const message = await messageIn(whole, form);
  if (message !== null && form.isJson) checkJson(form.desc, message.toString('utf8'));
  else if (message !== null) checkBinary(form.desc, message);
  yield whole;
}

/** Null for what is no message. */
async function messageIn(body: Buffer, { isFramed, isPacked }: MessageForm): Promise<Buffer | null> {
  if (!isFramed) return isPacked ? unpacked(body) : body;
  if (body.length < headBytes) return null;
  const length = body.readUInt32BE(1);
  if (body.length < headBytes + length) return null;
  // The library reads the second message as well before it says so.
  if (body.length > headBytes + length)
    throw new ConnectError('protocol error: received extra input message for unary method', Code.Unimplemented);
  const data = body.subarray(headBytes, headBytes + length);
  return (body[0]! & 1) === 0 ? data : unpacked(data);
}

async function unpacked(data: Buffer): Promise<Buffer | null> {
  try {
    return await unpack(data, { maxOutputLength: maxMessageBytes });
  } catch {
    return null;
  }
}

function checkBinary(desc: DescMessage, message: Uint8Array): void {
  try {
    requireFewInBinary(desc, message);
    fromBinary(desc, message, { readUnknownFields: false });
  } catch (error) {
    throw new ConnectError(`unmarshal message: ${(error as Error).message}`, Code.InvalidArgument);
  }
}
