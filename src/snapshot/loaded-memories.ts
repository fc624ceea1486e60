import { type FileHandle, open } from 'node:fs/promises';
import { BerthError } from '../common/errors.ts';
import { type EngineMemory, memoryPageBytes } from '../engine/engine.ts';
import { loadMemory } from './memory-file.ts';
import { type MemoryManifest, memoryFiles, readMemoryManifest, stateChecksum } from './memory-files.ts';
import { createSealedMemory } from './sealed-memory.ts';

/** One captured memory; its file is closed when nobody uses it and it is no longer wanted. */
class Loaded {
  readonly manifest: MemoryManifest;
  readonly #memory: FileHandle;
  #users = 0;
  #isWanted = true;

  constructor(manifest: MemoryManifest, memory: FileHandle) {
    this.manifest = manifest;
    this.#memory = memory;
  }

  /** Host memory it takes. */
  get bytes(): number {
    return this.manifest.memory.runs.reduce((sum, [, pages]) => sum + pages, 0) * memoryPageBytes;
  }

  async using<T>(use: (memoryFd: number) => Promise<T>): Promise<T> {
    this.#users++;
    try {
      return await use(this.#memory.fd);
    } finally {
      this.#users--;
      await this.#closeIfUnused();
    }
  }

  async drop(): Promise<void> {
    this.#isWanted = false;
    await this.#closeIfUnused();
  }

  async #closeIfUnused(): Promise<void> {
    if (!this.#isWanted && this.#users === 0) await this.#memory.close();
  }
}

/**
 * Captured memories that VMs are cloned from, checked once and then held in memory that cannot change: a damaged file is
 * found before anything starts, and no VM's process can touch what others are made of. The least recently used are let go
 * of when `budgetBytes` is exceeded; VMs that run keep theirs all the same.
 */
export class LoadedMemories {
  readonly #budgetBytes: number;
  /** By directory, least recently used first. */
  readonly #loading = new Map<string, Promise<Loaded>>();
  readonly #loaded = new Map<string, Loaded>();

  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  /**
   * Calls `use` with a directory's memory and state. Throws `snapshot_damaged` when the files are not whole, and
   * `snapshot_mismatch` when they were captured under another fingerprint.
   */
  async using<T>(dir: string, fingerprint: string, use: (memory: EngineMemory) => Promise<T>): Promise<T> {
    const loaded = await this.#load(dir);
    return loaded.using(async (memoryFd) => {
      if (loaded.manifest.fingerprint !== fingerprint)
        throw new BerthError('snapshot_mismatch', {
          reason: 'its memory was saved by another version of the VM engine',
        });
      // Small, and read from the disk for each VM, so it is checked each time.
      const { state } = memoryFiles(dir);
      await checkState(state, loaded.manifest);
      await using file = await open(state, 'r');
      return await use({ memoryFd, stateFd: file.fd });
    });
  }

  /** Reads a directory's memory now, so that nobody waits for it later. */
  async load(dir: string): Promise<void> {
    await this.#load(dir);
  }

  /** Lets go of a directory's memory. VMs that are made from it meanwhile are not disturbed. */
  async forget(dir: string): Promise<void> {
    this.#loading.delete(dir);
    const loaded = this.#loaded.get(dir);
    this.#loaded.delete(dir);
    await loaded?.drop();
  }

  async close(): Promise<void> {
    for (const dir of [...this.#loading.keys()]) await this.forget(dir);
  }

  async #load(dir: string): Promise<Loaded> {
    const loading = this.#loading.get(dir) ?? this.#begin(dir);
    this.#loading.delete(dir);
    this.#loading.set(dir, loading);
    return loading;
  }

  #begin(dir: string): Promise<Loaded> {
    const loading: Promise<Loaded> = this.#read(dir).then(
      async (loaded) => {
        if (this.#loading.get(dir) === loading) this.#loaded.set(dir, loaded);
        else await loaded.drop();
        await this.#shrink();
        return loaded;
      },
      (error: unknown) => {
        if (this.#loading.get(dir) === loading) this.#loading.delete(dir);
        throw error;
      },
    );
    return loading;
  }

  async #read(dir: string): Promise<Loaded> {
    const manifest = await readMemoryManifest(dir);
    const files = memoryFiles(dir);
    await checkState(files.state, manifest);
    const { memory: index } = manifest;
    const memory = await createSealedMemory(index.memoryMiB * 1024 * 1024, (target) =>
      loadMemory(files.memory, index, target),
    );
    return new Loaded(manifest, memory);
  }

  /** Drops what was not used for longest; never the last one, which is in use now. */
  async #shrink(): Promise<void> {
    for (const dir of [...this.#loading.keys()].slice(0, -1)) {
      const total = [...this.#loaded.values()].reduce((sum, { bytes }) => sum + bytes, 0);
      if (total <= this.#budgetBytes) return;
      if (this.#loaded.has(dir)) await this.forget(dir);
    }
  }
}

async function checkState(path: string, { stateSha256 }: MemoryManifest): Promise<void> {
  if ((await stateChecksum(path)) !== stateSha256)
    throw new BerthError('snapshot_damaged', {}, new Error('the checksum of the device state is wrong'));
}
