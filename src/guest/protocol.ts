/** Constants and encodings of the guest protocol; the C side is guest-init/src, the description guest-init/README.md. */

export const PROTOCOL_VERSION = 1;

/** Parameter tags. These numbers are part of the protocol: never reuse one. */
export const tag = {
  arg: 1,
  env: 2,
  cwd: 3,
  uid: 4,
  gid: 5,
  timeoutMs: 6,
  pty: 7,
  stdin: 8,
  root: 9,
  path: 10,
  maxEntries: 11,
  maxBytes: 12,
  port: 13,
  hostname: 14,
  unixTimeNs: 15,
  entropy: 16,
  mac: 17,
  ipv4: 18,
  gateway4: 19,
  ipv6: 20,
  gateway6: 21,
  nameserver: 22,
  protocol: 23,
  bootId: 24,
  kernel: 25,
  renew: 26,
  sshKey: 27,
  sshPublicKey: 28,
  diskBytes: 29,
  step: 30,
  clockSkewNs: 31,
  keepNetwork: 32,
} as const;

/** Frame types inside the bodies of an exec. These numbers are part of the protocol: never reuse one. */
export const frame = {
  stdin: 0,
  stdinEnd: 1,
  resize: 2,
  kill: 3,
  stdout: 16,
  stderr: 17,
  exit: 18,
  execFailed: 19,
} as const;

export const FRAME_HEADER_BYTES = 5;

type ParameterValue = string | number | bigint | Uint8Array;

function bytesOf(value: ParameterValue): Uint8Array {
  if (typeof value === 'string') return Buffer.from(value, 'utf8');
  if (value instanceof Uint8Array) return value;
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** Builds the parameters of a request: (tag u8, length u32, value) each. Numbers are sent as 64 bits, big-endian. */
export class Parameters {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  add(parameter: number, value: ParameterValue): this {
    const bytes = bytesOf(value);
    const head = Buffer.alloc(FRAME_HEADER_BYTES);
    head.writeUInt8(parameter, 0);
    head.writeUInt32BE(bytes.length, 1);
    this.#parts.push(head, bytes);
    this.#length += head.length + bytes.length;
    return this;
  }

  /** The start of a request's body: u32 length of the parameters, then the parameters. */
  encode(): Buffer {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(this.#length);
    return Buffer.concat([head, ...this.#parts], 4 + this.#length);
  }
}

/** Decodes a list of parameters that the guest sent, in order. Throws RangeError when it is damaged. */
export function decodeParameterList(bytes: Buffer): readonly (readonly [number, Buffer])[] {
  const list: [number, Buffer][] = [];
  let at = 0;
  while (at < bytes.length) {
    const length = bytes.readUInt32BE(at + 1);
    const end = at + FRAME_HEADER_BYTES + length;
    if (end > bytes.length) throw new RangeError('parameter is cut off');
    list.push([bytes.readUInt8(at), bytes.subarray(at + FRAME_HEADER_BYTES, end)]);
    at = end;
  }
  return list;
}

export function frameHeader(type: number, length: number): Buffer {
  const head = Buffer.alloc(FRAME_HEADER_BYTES);
  head.writeUInt8(type, 0);
  head.writeUInt32BE(length, 1);
  return head;
}
