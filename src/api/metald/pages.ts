/** Pages of a list that VMs join and leave while it is read. */

import { BerthError } from '../../common/errors.ts';
import type { Vm } from '../../vm/model.ts';

const defaultPageSize = 50;
const maxPageSize = 1000;

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
  readonly after?: { readonly at: string; readonly id: string };
}

const longestToken = 256;

/**
 * One page of `vms`, which are oldest first, of those that `wanted` lets through.
 *
 * Throws `invalid_argument` for a size below 0 and for a token that is none.
 */
export function page(
  vms: readonly Vm[],
  wanted: ((vm: Vm) => boolean) | null,
  request: { readonly pageSize: number; readonly pageToken: string },
): Page {
  if (request.pageSize < 0) throw invalid('page_size must not be negative');
  const size = Math.min(request.pageSize || defaultPageSize, maxPageSize);
  const position = request.pageToken === '' ? { offset: 0 } : readToken(request.pageToken);
  const matching = wanted === null ? vms : vms.filter(wanted);
  const total = matching.length;
  // `end` counts the VMs that are older than the page before, or all.
  const end = position.after ? countBefore(matching, position.after) : Math.max(0, total - position.offset);
  const begin = Math.max(0, end - size);
  const shown = matching.slice(begin, end).reverse();
  const last = shown.at(-1);
  return { vms: shown, next: begin === 0 || !last ? '' : writeToken(position.offset + shown.length, last), total };
}

/** How many of `vms` come before the VM in the order of creation; it need not be there any more. */
function countBefore(vms: readonly Vm[], { at, id }: { readonly at: string; readonly id: string }): number {
  // The list is in order of creation; where a clock was set back in between, the VM itself still tells where it stands.
  const index = vms.findLastIndex((vm) => vm.id === id);
  if (index !== -1) return index;
  return vms.findLastIndex((vm) => vm.createdAt < at || (vm.createdAt === at && vm.id < id)) + 1;
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
