import { sha384 } from './hash.ts';

/** Bytes of a TDX measurement register: one SHA-384 digest. */
export const REGISTER_BYTES = 48;

/** The four runtime measurement registers, in order. */
export type Rtmrs = readonly [Buffer, Buffer, Buffer, Buffer];

/** The register after one more digest: SHA-384(register ‖ digest), as TDG.MR.RTMR.EXTEND computes it. */
export function extend(register: Uint8Array, digest: Uint8Array): Buffer {
  if (register.length !== REGISTER_BYTES || digest.length !== REGISTER_BYTES)
    throw new RangeError(`a register and a digest have ${REGISTER_BYTES} bytes`);
  return sha384(register, digest);
}

/** What the registers hold after all of `events`, from zero. An event of a register that does not exist is an error. */
export function replay(events: Iterable<{ readonly imr: number; readonly digest: Uint8Array }>): Rtmrs {
  const registers: [Buffer, Buffer, Buffer, Buffer] = [zero(), zero(), zero(), zero()];
  for (const { imr, digest } of events) {
    const register = registers[imr];
    if (register === undefined) throw new RangeError(`there is no RTMR${imr}`);
    registers[imr] = extend(register, digest);
  }
  return registers;
}

function zero(): Buffer {
  return Buffer.alloc(REGISTER_BYTES);
}
