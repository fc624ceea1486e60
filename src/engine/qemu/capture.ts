import { readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BerthError } from '../../common/errors.ts';
import { type EngineCapture, type EngineCaptured, memoryPageBytes } from '../engine.ts';
import { openLayer } from './disk-layers.ts';
import type { QmpClient } from './qemu-qmp.ts';

/** Bytes of guest memory that are copied aside while the VM stands still; more than that is handed out meanwhile. */
const asideBytes = 512 * 1024 * 1024;
/** Bytes read at a time. */
const chunkBytes = 4 * 1024 * 1024;
/** Milliseconds that saving the devices' state may take, on a busy disk. */
const saveMs = 30_000;

/** Milliseconds for which nothing else has its turn. */
const turnMs = 5;
/** Pages between two of the process's own that are read with them: less than another read costs. */
const bridgedPages = 8;

const pagemapEntryBytes = 8;
/** Bits of a pagemap entry's upper half: in memory, in swap, and belonging to a file rather than to the process. */
const present = 0x8000_0000;
const swapped = 0x4000_0000;
const ofFile = 0x2000_0000;

/**
 * Stops a VM, saves its devices' state and reads its memory from outside: the pages the process has of its own. What a VM
 * that was itself prepared from captured memory has not changed still belongs to that file, and is not read. The kernel's
 * account of the pages (Documentation/admin-guide/mm/pagemap.rst) says which is which.
 */
export async function capture(
  qmp: QmpClient,
  pid: number,
  { memoryMiB, statePath, layer, atRest, take }: EngineCapture,
): Promise<EngineCaptured> {
  const address = await memoryAddress(qmp);
  const pageCount = (memoryMiB * 1024 * 1024) / memoryPageBytes;
  const { status } = (await qmp.execute('query-status')) as { status: string };
  const wasRunning = status === 'running';
  await using memory = await open(`/proc/${pid}/mem`, 'r');
  await using pagemap = await open(`/proc/${pid}/pagemap`, 'r');
  const aside = await Aside.create(await ownBytes(pagemap, address, pageCount));
  await using newLayer = layer === null ? null : await openLayer(qmp, layer);
  const began = performance.now();
  try {
    // In here: should the answer come too late, the VM goes on all the same.
    await qmp.execute('stop');
    // The VM's process saves its state while this one reads its memory. Both must have ended before the VM goes on.
    const outcomes = await Promise.allSettled([
      qmp.execute('xen-save-devices-state', { filename: statePath, live: true }, saveMs),
      readOwnPages({ memory, pagemap, address, pageCount, aside, take }),
    ]);
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    await newLayer?.attach();
    atRest();
  } finally {
    if (wasRunning) await qmp.execute('cont');
  }
  const pausedMicros = Math.round((performance.now() - began) * 1000);
  return { pausedMicros, handOut: () => aside.handOut(take) };
}

/** Where the guest's first byte of memory is in the process. All of it is one mapping, whatever the guest sees. */
async function memoryAddress(qmp: QmpClient): Promise<bigint> {
  const answer = await qmp.execute('human-monitor-command', { 'command-line': 'gpa2hva 0' });
  const found = /is (0x[0-9a-f]+)/.exec(String(answer));
  if (found === null) throw new Error(`unexpected answer to gpa2hva: ${answer}`);
  return BigInt(found[1]!);
}

/** Buffers for what is read while the VM stands still, touched beforehand: a page fault for each page would cost more. */
class Aside {
  readonly #free: Buffer[] = [];
  #pieces: readonly Piece[] = [];

  static async create(bytes: number): Promise<Aside> {
    const aside = new Aside();
    // The guest goes on writing until it is stopped.
    const expected = Math.min(bytes + 4 * chunkBytes, asideBytes);
    for (let held = 0; held < expected; held += chunkBytes) {
      aside.#free.push(Buffer.alloc(chunkBytes, 1));
      // Requests go on being served meanwhile.
      await nextTurn();
    }
    return aside;
  }

  /** Room for as much of the runs as there is; `rest` is what there is none for. */
  divide(runs: readonly Run[]): { readonly pieces: readonly Piece[]; readonly rest: readonly Run[] } {
    this.#pieces = [...piecesOf(runs, () => this.#free.pop() ?? null)];
    const last = this.#pieces.at(-1);
    const end = last === undefined ? 0 : last.page + last.bytes.length / memoryPageBytes;
    const rest = runs.flatMap(([first, count]): Run[] => {
      const from = Math.max(first, end);
      return from < first + count ? [[from, first + count - from]] : [];
    });
    return { pieces: this.#pieces, rest };
  }

  async handOut(take: EngineCapture['take']): Promise<void> {
    this.#free.length = 0;
    for (const { page, bytes } of this.#pieces) await take(page, bytes);
    this.#pieces = [];
  }
}

interface Reading {
  readonly memory: FileHandle;
  readonly pagemap: FileHandle;
  readonly address: bigint;
  readonly pageCount: number;
  readonly aside: Aside;
  readonly take: EngineCapture['take'];
}

async function readOwnPages({ memory, pagemap, address, pageCount, aside, take }: Reading): Promise<void> {
  const runs = await ownRuns(pagemap, address, pageCount);
  const position = (page: number) => address + BigInt(page) * BigInt(memoryPageBytes);
  const { pieces, rest } = aside.divide(runs);
  let turnEnds = performance.now() + turnMs;
  for (const { page, bytes } of pieces) {
    readHere(memory, bytes, position(page));
    if (performance.now() < turnEnds) continue;
    await nextTurn();
    turnEnds = performance.now() + turnMs;
  }
  const buffer = Buffer.allocUnsafe(rest.length > 0 ? chunkBytes : 0);
  for (const { page, bytes } of piecesOf(rest, () => buffer)) {
    await readExactly(memory, bytes, position(page));
    await take(page, bytes);
  }
}

/** Without a thread of the pool: a guest's own pages are many small pieces, and the VM stands still for each detour. */
function readHere({ fd }: FileHandle, bytes: Buffer, position: bigint): void {
  for (let done = 0; done < bytes.length; ) {
    const count = readSync(fd, bytes, done, bytes.length - done, position + BigInt(done));
    if (count === 0) throw new BerthError('conflict', { reason: 'The VM ended meanwhile' });
    done += count;
  }
}

interface Piece {
  readonly page: number;
  readonly bytes: Buffer;
}

/** Room for runs of pages, in parts of buffers of {@link chunkBytes} that `next` gives until it has no more. */
function* piecesOf(runs: readonly Run[], next: () => Buffer | null): Generator<Piece, void> {
  let buffer: Buffer | null = null;
  let used = 0;
  for (const [first, count] of runs) {
    for (let page = first; page < first + count; ) {
      if (buffer === null || used === buffer.length) {
        buffer = next();
        used = 0;
      }
      if (buffer === null) return;
      const bytes = buffer.subarray(used, used + (first + count - page) * memoryPageBytes);
      yield { page, bytes };
      used += bytes.length;
      page += bytes.length / memoryPageBytes;
    }
  }
}

async function readExactly(memory: FileHandle, bytes: Buffer, position: bigint): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await memory.read(bytes, done, bytes.length - done, position + BigInt(done));
    if (bytesRead === 0) throw new BerthError('conflict', { reason: 'The VM ended meanwhile' });
    done += bytesRead;
  }
}

async function ownBytes(pagemap: FileHandle, address: bigint, pageCount: number): Promise<number> {
  const runs = await ownRuns(pagemap, address, pageCount);
  return runs.reduce((sum, [, count]) => sum + count, 0) * memoryPageBytes;
}

/** First page and number of pages. */
type Run = readonly [first: number, count: number];

/** The pages the process has of its own, in ascending order, and what lies between those that are close. */
async function ownRuns(pagemap: FileHandle, address: bigint, pageCount: number): Promise<Run[]> {
  const runs: [number, number][] = [];
  const table = Buffer.alloc(Math.min(pageCount * pagemapEntryBytes, chunkBytes));
  const halves = new Uint32Array(table.buffer, table.byteOffset, table.length / 4);
  const firstEntry = address / BigInt(memoryPageBytes);
  for (let done = 0; done < pageCount; done += halves.length / 2) {
    const count = Math.min(halves.length / 2, pageCount - done);
    const position = (firstEntry + BigInt(done)) * BigInt(pagemapEntryBytes);
    await readExactly(pagemap, table.subarray(0, count * pagemapEntryBytes), position);
    for (let n = 0; n < count; n++) {
      const upper = halves[2 * n + 1]!;
      if ((upper & (present | swapped)) === 0 || (upper & ofFile) !== 0) continue;
      const last = runs.at(-1);
      if (last !== undefined && done + n - last[0] - last[1] <= bridgedPages) last[1] = done + n - last[0] + 1;
      else runs.push([done + n, 1]);
    }
  }
  return runs;
}
