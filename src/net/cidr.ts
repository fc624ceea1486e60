import { BerthError } from '../common/errors.ts';

/** An IPv4 or IPv6 network; `address` has no bits set behind the prefix. */
export interface Cidr {
  readonly family: 4 | 6;
  /** The address as a number: 32 bits for IPv4, 128 for IPv6. */
  readonly address: bigint;
  readonly prefix: number;
}

/** The longest text that is looked at; anything longer cannot be an address with a prefix. */
const maxTextLength = 64;
const mappedPrefix = 0xffffn << 32n;

/**
 * Parses an address (`10.0.0.1`: the one host) or a CIDR (`10.0.0.0/8`) to its canonical text: bits behind the prefix
 * cleared, IPv6 as RFC 5952 writes it, the prefix always present.
 *
 * @example parseCidr('10.1.2.3/8') // '10.0.0.0/8'
 * @throws BerthError `invalid_cidr`
 */
export function parseCidr(text: string): string {
  return formatCidr(readCidr(text));
}

/** Like {@link parseCidr}, as numbers. */
export function readCidr(text: string): Cidr {
  const { family, address, prefix } = readInterface(text);
  return { family, prefix, address: networkOf(address, prefix, family) };
}

/**
 * Parses an address with its prefix and keeps the host bits: `172.16.0.1/24` is an interface's own address.
 *
 * @throws BerthError `invalid_cidr`
 */
export function readInterface(text: string): Cidr {
  if (text.length > maxTextLength) throw invalid(text);
  const slash = text.indexOf('/');
  const { family, address } = readAddress(slash < 0 ? text : text.slice(0, slash), text);
  const bits = widthOf(family);
  if (slash < 0) return { family, address, prefix: bits };
  const digits = text.slice(slash + 1);
  if (!/^(0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > bits) throw invalid(text);
  return { family, address, prefix: Number(digits) };
}

/** Parses an address without a prefix. */
export function parseAddress(text: string): { readonly family: 4 | 6; readonly address: bigint } {
  if (text.length > maxTextLength) throw invalid(text);
  return readAddress(text, text);
}

/** An address without a prefix as everybody writes it. */
export function canonicalAddress(text: string): string {
  const { family, address } = parseAddress(text);
  return formatAddress(family, address);
}

export function formatCidr(cidr: Cidr): string {
  return `${formatAddress(cidr.family, cidr.address)}/${cidr.prefix}`;
}

export function formatAddress(family: 4 | 6, address: bigint): string {
  return family === 4 ? formatIpv4(address) : formatIpv6(address);
}

/** The lowest address of the network that `address` is in. */
export function networkOf(address: bigint, prefix: number, family: 4 | 6): bigint {
  const hostBits = BigInt(widthOf(family) - prefix);
  return (address >> hostBits) << hostBits;
}

export function containsAddress(cidr: Cidr, family: 4 | 6, address: bigint): boolean {
  return cidr.family === family && networkOf(address, cidr.prefix, family) === cidr.address;
}

/**
 * The same addresses without repetition: networks that lie within another of the list are left out. What remains is
 * disjoint, sorted by address.
 */
export function withoutOverlap(cidrs: readonly Cidr[]): readonly Cidr[] {
  const sorted = cidrs.toSorted((a, b) => {
    if (a.address !== b.address) return a.address < b.address ? -1 : 1;
    return a.prefix - b.prefix;
  });
  // Prefixes nest or are disjoint, so a network that overlaps an earlier one lies within the last one kept.
  const kept: Cidr[] = [];
  for (const cidr of sorted) {
    const last = kept.at(-1);
    if (last === undefined || !containsAddress(last, cidr.family, cidr.address)) kept.push(cidr);
  }
  return kept;
}

function widthOf(family: 4 | 6): number {
  return family === 4 ? 32 : 128;
}

function readAddress(text: string, shown: string): { readonly family: 4 | 6; readonly address: bigint } {
  if (!text.includes(':')) {
    const address = readIpv4(text);
    if (address === null) throw invalid(shown);
    return { family: 4, address };
  }
  const address = readIpv6(text);
  // IPv4-mapped addresses never appear in a packet: a rule with one would silently do nothing.
  if (address === null || address >> 32n === mappedPrefix >> 32n) throw invalid(shown);
  return { family: 6, address };
}

function readIpv4(text: string): bigint | null {
  const parts = text.split('.');
  if (parts.length !== 4) return null;
  let address = 0n;
  for (const part of parts) {
    // A leading zero means octal to some parsers and decimal to others.
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    address = (address << 8n) | BigInt(part);
  }
  return address;
}

function readIpv6(text: string): bigint | null {
  const halves = text.split('::');
  if (halves.length > 2) return null;
  const head = readGroups(halves[0] ?? '', halves.length === 1);
  const tail = halves.length === 2 ? readGroups(halves[1] ?? '', true) : [];
  if (head === null || tail === null) return null;
  const missing = 8 - head.length - tail.length;
  // `::` stands for at least one group.
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const groups = [...head, ...new Array<number>(missing).fill(0), ...tail];
  return groups.reduce((address, group) => (address << 16n) | BigInt(group), 0n);
}

/** Groups of 16 bits; the last may be a dotted IPv4 address, worth two, where the text ends with it. */
function readGroups(text: string, last: boolean): number[] | null {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (last && index === parts.length - 1 && part.includes('.')) {
      const address = readIpv4(part);
      if (address === null) return null;
      groups.push(Number(address >> 16n), Number(address & 0xffffn));
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(part)) return null;
      groups.push(Number.parseInt(part, 16));
    }
  }
  return groups;
}

function formatIpv4(address: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => (address >> shift) & 0xffn).join('.');
}

function formatIpv6(address: bigint): string {
  const groups = Array.from({ length: 8 }, (_, index) => Number((address >> BigInt(112 - 16 * index)) & 0xffffn));
  const zeros = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (zeros.length < 2) return hex.join(':');
  return `${hex.slice(0, zeros.start).join(':')}::${hex.slice(zeros.start + zeros.length).join(':')}`;
}

/** RFC 5952: the longest run of zero groups is shortened, the first of equals. */
function longestZeroRun(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== 0) start = index + 1;
    else if (index + 1 - start > best.length) best = { start, length: index + 1 - start };
  }
  return best;
}

function invalid(text: string): BerthError {
  return new BerthError('invalid_cidr', { value: text.slice(0, maxTextLength) });
}
