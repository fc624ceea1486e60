import { type FileHandle, open } from 'node:fs/promises';
import { BerthError } from '../common/errors.ts';
import { type EngineMemory, memoryPageBytes } from '../engine/engine.ts';
import { loadMemory } from './memory-file.ts';
import { type MemoryManifest, memoryFiles, readMemoryManifest, stateChecksum } from './memory-files.ts';
import { createSealedMemory } from './sealed-memory.ts';

/** What captured memory is tied to: see `Engine.fingerprint` and `Engine.counterKhz`. */
export interface MemoryHost {
  readonly fingerprint: string;
  readonly counterKhz: number | null;
}

/** Share by which the rates of two counters may differ: more than measuring does, less than two processors'. */
const counterTolerance = 1 / 500;

interface Loaded {
  readonly manifest: MemoryManifest;
  readonly memory: FileHandle;
  /** Host memory it takes. */
  readonly bytes: number;
}

interface Entry {
  readonly loading: Promise<Loaded>;
  /** Null until it is loaded. */
  loaded: Loaded | null;
  /** Who waits for it or uses it: it stays open meanwhile. */
  users: number;
}

/**
 * Captured memories that VMs are cloned from, checked once and then held in memory that cannot change: a damaged file is
 * found before anything starts, and no VM's process can touch what others are made of. The least recently used are let go
 * of when `budgetBytes` is exceeded; VMs that run keep theirs all the same.
 */
export class LoadedMemories {
  readonly #budgetBytes: number;
  /** By directory, least recently used first. */
  readonly #entries = new Map<string, Entry>();

  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  /**
   * Calls `use` with a directory's memory and state. Throws `snapshot_damaged` when the files are not whole, and
   * `snapshot_mismatch` when they were captured under another fingerprint, or where clocks run at another rate.
   */
  async using<T>(dir: string, host: MemoryHost, use: (memory: EngineMemory) => Promise<T>): Promise<T> {
    return this.#holding(dir, async ({ manifest, memory }) => {
      if (manifest.fingerprint !== host.fingerprint)
        throw new BerthError('snapshot_mismatch', {
          reason: 'its memory was saved by another version of the VM engine',
        });
      if (!isSameRate(manifest.counterKhz, host.counterKhz))
        throw new BerthError('snapshot_mismatch', {
          reason: 'its memory was saved on a host whose processor counts at another rate: its clock would run wrong',
        });
      // Small, and read from the disk for each VM, so it is checked each time.
      const { state } = memoryFiles(dir);
      await checkState(state, manifest);
      await using file = await open(state, 'r');
      return await use({ memoryFd: memory.fd, stateFd: file.fd });
    });
  }

  /**
   * Reads a directory's memory now, so that nobody waits for it later.
   *
   * @param isFresh this process has just written it, so that it need not be held against its checksum
   */
  async load(dir: string, isFresh = false): Promise<void> {
    await this.#holding(dir, async () => {}, isFresh);
  }

  /** Lets go of a directory's memory. VMs that are made from it meanwhile are not disturbed. */
  async forget(dir: string): Promise<void> {
    const entry = this.#entries.get(dir);
    this.#entries.delete(dir);
    if (entry) await this.#closeIfUnused(dir, entry);
  }

  async close(): Promise<void> {
    for (const dir of [...this.#entries.keys()]) await this.forget(dir);
  }

  async #holding<T>(dir: string, task: (loaded: Loaded) => Promise<T>, isFresh = false): Promise<T> {
    const entry = this.#entries.get(dir) ?? this.#begin(dir, isFresh);
    // Now the most recently used.
    this.#entries.delete(dir);
    this.#entries.set(dir, entry);
    entry.users++;
    try {
      return await task(await entry.loading);
    } finally {
      entry.users--;
      await this.#closeIfUnused(dir, entry);
      await this.#shrink();
    }
  }

  /** The last of those who have it closes what is no longer kept. */
  async #closeIfUnused(dir: string, entry: Entry): Promise<void> {
    if (this.#entries.get(dir) === entry || entry.users > 0) return;
    const { loaded } = entry;
    entry.loaded = null;
    await loaded?.memory.close();
  }

  #begin(dir: string, isFresh: boolean): Entry {
    const entry: Entry = { loading: this.#read(dir, isFresh), loaded: null, users: 0 };
    entry.loading.then(
      (loaded) => {
        entry.loaded = loaded;
      },
      () => {
        if (this.#entries.get(dir) === entry) this.#entries.delete(dir);
      },
    );
    return entry;
  }

  async #read(dir: string, isFresh: boolean): Promise<Loaded> {
    const manifest = await readMemoryManifest(dir);
    const files = memoryFiles(dir);
    await checkState(files.state, manifest);
    const { memory: index } = manifest;
    const memory = await createSealedMemory(index.memoryMiB * 1024 * 1024, (target) =>
      loadMemory(files.memory, index, target, isFresh),
    );
    const pages = index.runs.reduce((sum, [, count]) => sum + count, 0);
    return { manifest, memory, bytes: pages * memoryPageBytes };
  }

  /** Drops what was not used for longest, until the rest fits; never the latest, and nothing that anybody uses. */
  async #shrink(): Promise<void> {
    for (const [dir, { users, loaded }] of [...this.#entries].slice(0, -1)) {
      const total = [...this.#entries.values()].reduce((sum, entry) => sum + (entry.loaded?.bytes ?? 0), 0);
      if (total <= this.#budgetBytes) return;
      if (loaded !== null && users === 0) await this.forget(dir);
    }
  }
}

function isSameRate(one: number | null, other: number | null): boolean {
  return one === null || other === null || Math.abs(one - other) <= other * counterTolerance;
}

async function checkState(path: string, { stateSha256 }: MemoryManifest): Promise<void> {
  if ((await stateChecksum(path)) !== stateSha256)
    throw new BerthError('snapshot_damaged', {}, new Error('the checksum of the device state is wrong'));
}
