/** Pages of a list that VMs join and leave while it is read. */

import { BerthError } from '../../common/errors.ts';
import type { Vm } from '../../vm/model.ts';

const defaultPageSize = 50;
const maxPageSize = 1000;
/** A page ends before the VM that would make it larger, bytes: clients that do not read replies hold little. */
const maxPageBytes = 1024 * 1024;

export interface Page {
  /** Newest first. */
  readonly vms: readonly Vm[];
  /** Empty after the last page. */
  readonly next: string;
  readonly total: number;
}

/**
 * Where a page begins. A token of ours names the last VM of the page before by its time of creation and id, so that VMs
 * which come and go meanwhile move nothing. `offset` alone, which is all that the reference's tokens hold, counts from the
 * newest.
 */
interface Position {
  readonly offset: number;
  readonly after?: Place;
}

/** Of a VM in the order of creation. */
interface Place {
  readonly at: string;
  readonly id: string;
}

const longestToken = 256;

/**
 * One page of `vms`, of those that `wanted` lets through. VMs of the same millisecond are ordered by id. What is made of
 * `vms` is kept as long as they are, so the array must not change.
 *
 * A page has `pageSize` VMs unless those are too large together, by `sizeOf` in bytes; it has always one.
 *
 * Throws `invalid_argument` for a size below 0 and for a token that is none.
 */
export function page(
  vms: readonly Vm[],
  wanted: ((vm: Vm) => boolean) | null,
  request: { readonly pageSize: number; readonly pageToken: string },
  sizeOf: (vm: Vm) => number,
): Page {
  if (request.pageSize < 0) throw invalid('page_size must not be negative');
  const size = Math.min(request.pageSize || defaultPageSize, maxPageSize);
  const position = request.pageToken === '' ? { offset: 0 } : readToken(request.pageToken);
  const ordered = inOrder(vms);
  const matching = wanted === null ? ordered : ordered.filter(wanted);
  const total = matching.length;
  // `end` counts the VMs that are older than the page before, or all.
  const end = position.after ? countBefore(matching, position.after) : Math.max(0, total - position.offset);
  const earliest = Math.max(0, end - size);
  let begin = end;
  let bytes = 0;
  while (begin > earliest) {
    bytes += sizeOf(matching[begin - 1]!);
    if (bytes > maxPageBytes && begin < end) break;
    begin--;
  }
  const shown = matching.slice(begin, end).reverse();
  const last = shown.at(-1);
  return { vms: shown, next: begin === 0 || !last ? '' : writeToken(position.offset + shown.length, last), total };
}

const orders = new WeakMap<readonly Vm[], readonly Vm[]>();

/** Oldest first, by what a token holds: where a VM stands can be told even when it is gone. */
function inOrder(vms: readonly Vm[]): readonly Vm[] {
  let ordered = orders.get(vms);
  if (!ordered) {
    ordered = vms.toSorted((a, b) => (isBefore(a, { at: b.createdAt, id: b.id }) ? -1 : 1));
    orders.set(vms, ordered);
  }
  return ordered;
}

function isBefore(vm: Vm, { at, id }: Place): boolean {
  return vm.createdAt < at || (vm.createdAt === at && vm.id < id);
}

/** How many of `vms`, which are in order, come before a place. */
function countBefore(vms: readonly Vm[], place: Place): number {
  let low = 0;
  let high = vms.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(vms[middle]!, place)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function writeToken(offset: number, last: Vm): string {
  return Buffer.from(JSON.stringify({ offset, at: last.createdAt, id: last.id })).toString('base64');
}

function readToken(token: string): Position {
  if (token.length > longestToken || !/^[A-Za-z0-9+/_-]+={0,2}$/.test(token)) throw invalid('page_token is invalid');
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(token, 'base64').toString('utf8'));
  } catch {
    throw invalid('page_token is invalid');
  }
  const { offset, at, id } = Object(value) as Record<string, unknown>;
  if (!Number.isSafeInteger(offset) || (offset as number) < 0) throw invalid('page_token is invalid');
  if (at === undefined && id === undefined) return { offset: offset as number };
  if (typeof at !== 'string' || typeof id !== 'string') throw invalid('page_token is invalid');
  return { offset: offset as number, after: { at, id } };
}

function invalid(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason });
}
