/** The initramfs of each image: made when asked for, and made anew when guest-init or the image has changed. */

import { open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Serial } from '../common/concurrency.ts';
import { syncPath, writeFileAtomic } from '../common/files.ts';
import { temporaryName } from './temporary.ts';

export interface InitrdSource {
  readonly kernel: { readonly path: string; readonly sha256: string };
  readonly rootfs: { readonly path: string; readonly sha256: string };
}

export interface Initrd {
  /** Changes when the same files would give another initramfs, as with a new guest-init. */
  readonly key: string;
  /** Writes the initramfs to a path where nothing is. */
  write(path: string): Promise<void>;
}

/** Made by whoever knows guest-init; the image store only keeps the results. */
export type MakeInitrd = (source: InitrdSource) => Promise<Initrd>;

export class Initrds {
  readonly #make: MakeInitrd;
  readonly #serial = new Serial<string>();
  /** Directories whose initramfs was found or made by this process, and what for. */
  readonly #fresh = new Map<string, string>();

  constructor(make: MakeInitrd) {
    this.#make = make;
  }

  /** Path of the initramfs in the image directory `dir`, that fits `source` and this build. */
  ensure(dir: string, source: InitrdSource): Promise<string> {
    return this.#serial.run(dir, async () => {
      const path = join(dir, 'initrd');
      const content = `${source.kernel.sha256} ${source.rootfs.sha256}`;
      if (this.#fresh.get(dir) === content) return path;
      const initrd = await this.#make(source);
      const key = `${initrd.key} ${content}\n`;
      const keyPath = join(dir, 'initrd.key');
      if ((await readKey(keyPath)) !== key) await this.#write(initrd, path, keyPath, key);
      this.#fresh.set(dir, content);
      return path;
    });
  }

  /** Call when a directory's files are about to go. */
  forget(dir: string): void {
    this.#fresh.delete(dir);
  }

  async #write(initrd: Initrd, path: string, keyPath: string, key: string): Promise<void> {
    const temporary = temporaryName(path);
    // No key stands for the wrong file, should this be cut off between the two.
    await rm(keyPath, { force: true });
    try {
      await initrd.write(temporary);
      await using file = await open(temporary, 'r+');
      await file.sync();
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
    await syncPath(join(path, '..'));
    await writeFileAtomic(keyPath, key);
  }
}

async function readKey(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
