/** Makes the initramfs that boots a guest: guest-init and the kernel modules it needs. */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { type CpioEntry, writeCpio } from './cpio.ts';
import { kernelRelease } from './kernel-release.ts';
import { collectModules } from './modules.ts';

const DIRECTORY = 0o040755;
const PROGRAM = 0o100755;
const FILE = 0o100644;

export interface InitramfsInput {
  /** Paths of guest-init (see `ensureGuestInit`), of the kernel, and of the ext4 image that may hold its modules. */
  readonly guestInit: string;
  readonly kernel: string;
  readonly rootfs: string;
}

/** The files of this folder that decide what is in an initramfs, and how. */
const builderSources = ['initramfs.ts', 'cpio.ts', 'modules.ts', 'kernel-release.ts', 'debugfs.ts', 'elf.ts'];

/** Changes with the code here: an initramfs that another version made may not be what this one would make. */
export async function initramfsBuilder(): Promise<string> {
  const hash = createHash('sha256');
  for (const name of builderSources) hash.update(await readFile(join(import.meta.dirname, name)));
  return hash.digest('hex').slice(0, 32);
}

/**
 * An uncompressed cpio archive: under emulation decompressing costs more than reading. Reproducible: the same files
 * give the same bytes.
 */
export async function buildInitramfs(input: InitramfsInput): Promise<Buffer> {
  const release = await kernelRelease(input.kernel);
  const modules = release === null ? [] : await collectModules(input.rootfs, release);
  const order = modules.map((module) => `${module.phase} ${module.file}\n`).join('');
  const entries: CpioEntry[] = [
    { name: 'dev', mode: DIRECTORY },
    // The kernel opens the console for init before anything is mounted.
    { name: 'dev/console', mode: 0o020600, device: [5, 1] },
    { name: 'init', mode: PROGRAM, data: await readFile(input.guestInit) },
    { name: 'modules', mode: DIRECTORY },
    { name: 'modules/order', mode: FILE, data: Buffer.from(order) },
    ...modules.map((module) => ({ name: `modules/${module.file}`, mode: FILE, data: module.data })),
  ];
  return writeCpio(entries);
}
