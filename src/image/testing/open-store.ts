import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import pino from 'pino';
import { DirectoryImageStore, type ImageStoreOptions } from '../store.ts';
import { MemoryImageRecords } from './memory-records.ts';
import { scratchDirectory } from './scratch.ts';

export interface TestStore {
  readonly store: DirectoryImageStore;
  readonly root: string;
  readonly records: MemoryImageRecords;
  /** Ids that are in use. */
  readonly used: Set<string>;
  /** What the initramfs maker was asked for; `key` is what it answers next. */
  readonly initrds: { key: string; made: number };
  /** A second store on the same directory and table, as after a restart. */
  reopen(): Promise<DirectoryImageStore>;
}

/** A store in a directory of its own, with a table in memory and an initramfs that is its source's hashes. */
export async function openTestStore(t: TestContext, changes: Partial<ImageStoreOptions> = {}): Promise<TestStore> {
  const root = join(await scratchDirectory(t), 'images');
  await mkdir(root);
  const records = new MemoryImageRecords();
  const used = new Set<string>();
  const initrds = { key: 'one', made: 0 };
  const options: ImageStoreOptions = {
    root,
    records,
    inUse: (id) => used.has(id),
    makeInitrd: async ({ kernel, rootfs }) => ({
      key: initrds.key,
      write: async (path) => {
        initrds.made++;
        await writeFile(path, `${initrds.key} ${kernel.sha256} ${rootfs.sha256}`, { flag: 'wx' });
      },
    }),
    log: pino({ level: 'silent' }),
    reserveBytes: 0,
    ...changes,
  };
  const reopen = () => DirectoryImageStore.open(options);
  return { store: await reopen(), root, records, used, initrds, reopen };
}
