import { DecodeError } from './decode-error.ts';

/** Bytes from hexadecimal digits of either case, with any number of leading `0x`. */
export function parseHex(text: string, where: string): Uint8Array {
  const digits = text.replace(/^(?:0x)+/, '');
  if (digits.length % 2 !== 0) throw new DecodeError(`${where}: odd number of hexadecimal digits`);
  if (!/^[0-9a-fA-F]*$/.test(digits)) throw new DecodeError(`${where}: not hexadecimal`);
  return Buffer.from(digits, 'hex');
}

/** Lower-case hexadecimal without prefix. */
export function formatHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
