/**
 * Files of the host that VMs may be made from: those in the asset directories and nothing else. Whoever names one learns
 * nothing of any other file, not even whether there is one. Assets are read, never written: a VM gets hard links, or
 * copies where there can be none, in its own directory.
 */

import { constants } from 'node:fs';
import { chmod, type FileHandle, link, open, readlink, realpath, rm, stat } from 'node:fs/promises';
import { isAbsolute, normalize } from 'node:path';
import { runCommand } from '../common/command.ts';
import { BerthError } from '../common/errors.ts';
import { DiskFormatError, type InspectedDisk, inspectDisk } from '../disk/inspect.ts';
import { FormatError } from '../image/format-error.ts';
import { kernelFormat } from '../image/kernel.ts';
import type { DiskAsset } from './model.ts';

const longestPath = 4096;
const copyTimeoutMs = 600_000;
/** Ways a hard link can be refused although both paths are sound: another file system, too many links, not allowed. */
const linkRefusals = ['EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP'];

export class Assets {
  readonly #directories: readonly string[];

  /** @param directories absolute paths; one that is not there holds no assets */
  constructor(directories: readonly string[]) {
    this.#directories = directories;
  }

  /** The path, without symlinks, of an asset that is a kernel. Throws `invalid_argument`. */
  kernel(path: string): Promise<string> {
    return this.#inspect('the kernel', path, async (file, found) => {
      await kernelFormat(file);
      return found;
    });
  }

  /** Likewise for an initramfs, which can be anything. */
  initrd(path: string): Promise<string> {
    return this.#inspect('the initramfs', path, async (_, found) => found);
  }

  /** Likewise for a disk: raw, or a qcow2 that stands alone. */
  disk(name: string, path: string): Promise<DiskAsset & InspectedDisk> {
    return this.#inspect(`disk ${name}`, path, async (file, found) => ({ path: found, ...(await inspectDisk(file)) }));
  }

  /** Puts a file that was found to be a kernel or an initramfs into a VM's directory. Throws `asset_unusable`. */
  pin(what: string, path: string, target: string): Promise<void> {
    return this.#pin(what, path, target, async () => {});
  }

  /** Likewise a disk, which must still be of the format it was when the VM was made. */
  pinDisk(name: string, { path, format }: DiskAsset, target: string): Promise<void> {
    return this.#pin(`disk ${name}`, path, target, async (file) => {
      if ((await inspectDisk(file)).format !== format) throw new DiskFormatError('it has another format now');
    });
  }

  async #inspect<T>(what: string, path: string, look: (file: FileHandle, found: string) => Promise<T>): Promise<T> {
    try {
      const asset = await this.#open(path);
      await using file = asset.file;
      return await look(file, asset.path);
    } catch (error) {
      throw new BerthError('invalid_argument', { reason: `${what}: ${describe(error)}` }, error);
    }
  }

  async #pin(what: string, path: string, target: string, check: (file: FileHandle) => Promise<void>): Promise<void> {
    try {
      const asset = await this.#open(path);
      await using file = asset.file;
      // The path was without symlinks when the VM was made.
      if (asset.path !== path) throw new NotAnAsset();
      await check(file);
      await giveTo(file, path, target);
    } catch (error) {
      throw new BerthError('asset_unusable', { what }, error);
    }
  }

  /** Opens what `path` names when that is a regular file in an asset directory, whatever links lead there. */
  async #open(path: string): Promise<{ readonly file: FileHandle; readonly path: string }> {
    if (!isAbsolute(path) || path.length > longestPath || path.includes('\0') || normalize(path) !== path)
      throw new NotAnAsset();
    const found = await realpath(path);
    const roots = await Promise.all(this.#directories.map((directory) => realpath(directory).catch(() => null)));
    if (!roots.some((root) => root !== null && found.startsWith(root === '/' ? root : `${root}/`)))
      throw new NotAnAsset();
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants;
    const file = await open(found, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    try {
      // Had a directory on the way been exchanged since, this would be another file.
      if (!(await file.stat()).isFile() || (await readlink(`/proc/self/fd/${file.fd}`)) !== found)
        throw new NotAnAsset();
    } catch (error) {
      await file.close();
      throw error;
    }
    return { file, path: found };
  }
}

class NotAnAsset extends Error {}

/** The same words for a file that is missing, that is elsewhere, and that may not be read. */
function describe(error: unknown): string {
  if (error instanceof DiskFormatError || error instanceof FormatError) return error.message;
  return 'no such file in an asset directory';
}

/** Makes `target` the open file, readable by VMs' processes. */
async function giveTo(file: FileHandle, path: string, target: string): Promise<void> {
  const { ino, dev, mode } = await file.stat();
  await rm(target, { force: true });
  if (mode & 0o004) {
    try {
      await link(path, target);
      const linked = await stat(target);
      if (linked.ino !== ino || linked.dev !== dev) throw new NotAnAsset();
      return;
    } catch (error) {
      if (!linkRefusals.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  // By way of the descriptor: it cannot have become another file. Shares blocks where it can, else keeps the holes.
  const source = `/proc/${process.pid}/fd/${file.fd}`;
  const options = ['--reflink=auto', '--sparse=always', '--dereference', '--'];
  await runCommand('cp', [...options, source, target], { timeoutMs: copyTimeoutMs });
  await chmod(target, 0o644);
  await using copy = await open(target, 'r');
  await copy.sync();
}
