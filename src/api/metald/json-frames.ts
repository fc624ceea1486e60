/** JSON in the frames of gRPC and gRPC-Web, looked at before the library reads it. */

import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import type { DescMessage } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { maxMessageBytes } from './body.ts';
import { checkNames } from './json.ts';

const unpack = promisify(gunzip);

/** A frame's head: whether the message is packed, and its length. */
const headBytes = 5;

/**
 * The body of a unary call, once it is known to name nothing that `desc` does not have: the library leaves unknown names of
 * enums out of lists, as it does unknown fields. What is wrong with it otherwise is the library's to say.
 */
export async function* checkJsonFrame(
  body: AsyncIterable<Uint8Array>,
  desc: DescMessage,
): AsyncGenerator<Uint8Array, void, void> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > headBytes + maxMessageBytes)
      throw new ConnectError(`message is larger than ${maxMessageBytes} bytes`, Code.ResourceExhausted);
    chunks.push(chunk);
  }
  const frame = Buffer.concat(chunks);
  const text = await messageOf(frame);
  if (text !== null) checkNames(desc, text);
  yield frame;
}

/** Null for what is no message. */
async function messageOf(frame: Buffer): Promise<string | null> {
  if (frame.length < headBytes) return null;
  const data = frame.subarray(headBytes, headBytes + frame.readUInt32BE(1));
  if ((frame[0]! & 1) === 0) return data.toString('utf8');
  try {
    return (await unpack(data, { maxOutputLength: maxMessageBytes })).toString('utf8');
  } catch {
    return null;
  }
}
