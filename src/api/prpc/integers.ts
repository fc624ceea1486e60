import { DecodeError } from './decode-error.ts';

export type IntegerType = 'uint32' | 'uint64' | 'int64';

const ranges: { readonly [T in IntegerType]: { readonly min: bigint; readonly max: bigint } } = {
  uint32: { min: 0n, max: 0xffff_ffffn },
  uint64: { min: 0n, max: 0xffff_ffff_ffff_ffffn },
  int64: { min: -0x8000_0000_0000_0000n, max: 0x7fff_ffff_ffff_ffffn },
};

/** An integer written in decimal digits, in memory as its type has it: a number for uint32, otherwise a bigint. */
export function parseInteger(text: string, type: IntegerType, where: string): number | bigint {
  if (!/^-?\d{1,20}$/.test(text)) throw new DecodeError(`${where}: expected an integer`);
  const value = BigInt(text);
  const { min, max } = ranges[type];
  if (value < min || value > max) throw new DecodeError(`${where}: out of range for ${type}`);
  return type === 'uint32' ? Number(value) : value;
}
