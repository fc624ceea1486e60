import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BerthError } from '../../common/errors.ts';
import { type EngineCapture, type EngineCaptured, memoryPageBytes } from '../engine.ts';
import type { QmpClient } from './qemu-qmp.ts';

/** Bytes of guest memory that are copied aside while the VM stands still; more than that is handed out meanwhile. */
const asideBytes = 512 * 1024 * 1024;
/** Bytes read at a time. */
const chunkBytes = 4 * 1024 * 1024;
/** Milliseconds that saving the devices' state may take, on a busy disk. */
const saveMs = 30_000;

const pagemapEntryBytes = 8;
/** Bits of a pagemap entry: in memory, in swap, and belonging to a file rather than to the process. */
const present = 1n << 63n;
const swapped = 1n << 62n;
const ofFile = 1n << 61n;

/**
 * Stops a VM, saves its devices' state and reads its memory from outside: the pages the process has of its own. What a VM
 * that was itself prepared from captured memory has not changed still belongs to that file, and is not read. The kernel's
 * account of the pages (Documentation/admin-guide/mm/pagemap.rst) says which is which.
 */
export async function capture(
  qmp: QmpClient,
  pid: number,
  { statePath, atRest, take }: EngineCapture,
): Promise<EngineCaptured> {
  const address = await memoryAddress(qmp);
  const pageCount = (await memoryBytes(qmp)) / memoryPageBytes;
  const { status } = (await qmp.execute('query-status')) as { status: string };
  const wasRunning = status === 'running';
  await using memory = await open(`/proc/${pid}/mem`, 'r');
  await using pagemap = await open(`/proc/${pid}/pagemap`, 'r');
  const aside = await Aside.create(await ownBytes(pagemap, address, pageCount));
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
    await atRest();
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

/** The size of that mapping. */
async function memoryBytes(qmp: QmpClient): Promise<number> {
  const summary = (await qmp.execute('query-memory-size-summary')) as { 'base-memory': number };
  return summary['base-memory'];
}

/** Buffers for what is read while the VM stands still, touched beforehand: a page fault for each page would cost more. */
class Aside {
  readonly #free: Buffer[] = [];
  readonly #filled: { readonly page: number; readonly bytes: Buffer }[] = [];

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

  /** A buffer of {@link chunkBytes}, or null when there is no more. */
  next(): Buffer | null {
    return this.#free.pop() ?? null;
  }

  keep(page: number, bytes: Buffer): void {
    this.#filled.push({ page, bytes });
  }

  async handOut(take: EngineCapture['take']): Promise<void> {
    this.#free.length = 0;
    for (let next = this.#filled.shift(); next !== undefined; next = this.#filled.shift()) {
      await take(next.page, next.bytes);
    }
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
  let buffer: Buffer | null = null;
  let used = 0;
  for (const [first, count] of await ownRuns(pagemap, address, pageCount)) {
    for (let page = first; page < first + count; ) {
      if (buffer === null || used === buffer.length) {
        buffer = aside.next();
        used = 0;
      }
      const target = buffer ?? Buffer.allocUnsafe(chunkBytes);
      const start = buffer === null ? 0 : used;
      const wanted = Math.min((first + count - page) * memoryPageBytes, target.length - start);
      const bytes = target.subarray(start, start + wanted);
      await readExactly(memory, bytes, address + BigInt(page) * BigInt(memoryPageBytes));
      if (buffer === null) await take(page, bytes);
      else aside.keep(page, bytes);
      used += wanted;
      page += wanted / memoryPageBytes;
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

/** The pages the process has of its own, as `[first, count]` in ascending order. */
async function ownRuns(pagemap: FileHandle, address: bigint, pageCount: number): Promise<[number, number][]> {
  const runs: [number, number][] = [];
  const table = Buffer.alloc(Math.min(pageCount * pagemapEntryBytes, chunkBytes));
  const entries = new BigUint64Array(table.buffer, table.byteOffset, table.length / pagemapEntryBytes);
  const firstEntry = address / BigInt(memoryPageBytes);
  for (let done = 0; done < pageCount; done += entries.length) {
    const count = Math.min(entries.length, pageCount - done);
    const position = (firstEntry + BigInt(done)) * BigInt(pagemapEntryBytes);
    await readExactly(pagemap, table.subarray(0, count * pagemapEntryBytes), position);
    for (let n = 0; n < count; n++) {
      const entry = entries[n]!;
      if ((entry & (present | swapped)) === 0n || (entry & ofFile) !== 0n) continue;
      const last = runs.at(-1);
      if (last !== undefined && last[0] + last[1] === done + n) last[1]++;
      else runs.push([done + n, 1]);
    }
  }
  return runs;
}
