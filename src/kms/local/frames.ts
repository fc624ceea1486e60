import type { Socket } from 'node:net';

/** Messages of the local key provider: the length in four bytes, big-endian, and JSON with bytes as arrays of numbers. */

const LENGTH_BYTES = 4;
/** Longest message: a quote of 64 kB as decimal numbers. */
const MAX_FRAME_BYTES = 512 * 1024;

export function encodeFrame(message: Readonly<Record<string, Uint8Array>>): Buffer {
  const json = Object.fromEntries(Object.entries(message).map(([name, bytes]) => [name, [...bytes]]));
  const content = Buffer.from(JSON.stringify(json));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32BE(content.length);
  return Buffer.concat([length, content]);
}

/** Reads the next message of a connection. Rejects when the other side goes away or sends something else. */
export async function readFrame(socket: Socket): Promise<Readonly<Record<string, unknown>>> {
  // Joined once it is whole: it may come byte by byte.
  const parts: Buffer[] = [];
  let received = 0;
  let wanted: number | null = null;
  for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    parts.push(chunk);
    received += chunk.length;
    if (received < LENGTH_BYTES) continue;
    wanted ??= LENGTH_BYTES + Buffer.concat(parts).readUInt32BE();
    if (wanted > LENGTH_BYTES + MAX_FRAME_BYTES || received > wanted) throw new Error('a message that is too long');
    if (received === wanted) return parse(Buffer.concat(parts).subarray(LENGTH_BYTES));
  }
  throw new Error('the connection ended in the middle of a message');
}

/** A field of a message as bytes. */
export function bytesField(message: Readonly<Record<string, unknown>>, name: string): Buffer {
  const value = message[name];
  if (!Array.isArray(value) || !value.every((byte) => Number.isInteger(byte) && byte >= 0 && byte <= 255))
    throw new Error(`${name} is not an array of bytes`);
  return Buffer.from(value);
}

function parse(content: Buffer): Readonly<Record<string, unknown>> {
  const message: unknown = JSON.parse(content.toString());
  if (typeof message !== 'object' || message === null) throw new Error('a message that is not an object');
  return message as Readonly<Record<string, unknown>>;
}
