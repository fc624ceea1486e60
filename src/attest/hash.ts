import { createHash, hash as hashOnce } from 'node:crypto';

/** Hash functions of the formats, each over the concatenation of its arguments. */

export function sha256(...parts: (Uint8Array | string)[]): Buffer {
  return hash('sha256', parts);
}

export function sha384(...parts: (Uint8Array | string)[]): Buffer {
  return hash('sha384', parts);
}

export function sha512(...parts: (Uint8Array | string)[]): Buffer {
  return hash('sha512', parts);
}

/** Keccak-256 as Ethereum uses it, which is not SHA3-256. */
export function keccak256(...parts: (Uint8Array | string)[]): Buffer {
  return hash('keccak-256', parts);
}

function hash(algorithm: string, parts: readonly (Uint8Array | string)[]): Buffer {
  // Takes less, which is felt where a processor is emulated.
  if (parts.length === 1) return hashOnce(algorithm, parts[0]!, 'buffer');
  const state = createHash(algorithm);
  for (const part of parts) state.update(part);
  return state.digest();
}
