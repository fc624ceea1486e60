/**
 * Disk images, by qemu-img; empty layers by {@link emptyOverlay}, since every VM waits for one. Formats are always stated,
 * never guessed: a guest can write another format's header onto its raw disk. An image that belongs to a VM's uid is opened with that uid's rights, so that a header which names other
 * files reaches nothing its owner could not read.
 */

import { open, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { runCommand } from '../common/command.ts';
import { settled } from '../common/concurrency.ts';
import { syncAll, writeAt } from '../common/files.ts';
import { emptyOverlay } from './overlay-header.ts';

export type DiskFormat = 'qcow2' | 'raw';

export interface DiskInfo {
  /** What the guest sees, in bytes. */
  readonly virtualSizeBytes: number;
  /** What it takes on the host, in bytes. */
  readonly actualSizeBytes: number;
  /** The layer below as the header names it, null when there is none. */
  readonly backing: string | null;
}

export interface CreateOverlayOptions {
  readonly path: string;
  /** The layer below: a name relative to the overlay's directory, so that the two can move together. */
  readonly backing: string;
  readonly backingFormat: DiskFormat;
  /** At least the size of the layer below. */
  readonly sizeBytes: number;
  readonly uid: number | null;
  /** False leaves it to the caller to make the layer and its name durable, together with more; default true. */
  readonly sync?: boolean;
}

const timeoutMs = 60_000;
const maxOutputBytes = 1024 * 1024;

/** Makes an empty qcow2 layer over another image, which is not opened. Durable on return; leaves nothing behind on failure. */
export async function createOverlay(options: CreateOverlayOptions): Promise<void> {
  const { path, backing, backingFormat, sizeBytes, uid, sync = true } = options;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/.test(backing))
    throw new RangeError('the backing name must be a plain file name');
  size(sizeBytes);
  const { parts, fileBytes } = emptyOverlay(backing, backingFormat, sizeBytes);
  try {
    await using file = await open(path, 'w', 0o600);
    await settled([
      // The name may have been there, left by a try that was cut off.
      file.chmod(0o600),
      uid === null ? null : file.chown(uid, uid),
      file.truncate(fileBytes),
      ...parts.map(({ offset, bytes }) => writeAt(file, bytes, offset)),
    ]);
    if (sync) await syncAll([path, dirname(path)]);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
}

/** What a disk's header says. Works while a VM uses the disk. */
export async function info(path: string, format: DiskFormat): Promise<DiskInfo> {
  const { stdout } = await qemuImg(path, ['info', '-U', '-f', format, '--output=json', '--', path]);
  const parsed = JSON.parse(stdout) as Record<string, unknown>;
  const [virtualSize, actualSize, backing] = ['virtual-size', 'actual-size', 'backing-filename'].map(
    (key) => parsed[key],
  );
  if (typeof virtualSize !== 'number' || typeof actualSize !== 'number') throw new Error('qemu-img info is incomplete');
  return {
    virtualSizeBytes: virtualSize,
    actualSizeBytes: actualSize,
    backing: typeof backing === 'string' ? backing : null,
  };
}

/** Makes a disk that no VM uses larger. Refuses to shrink it. Throws CommandError. */
export async function grow(path: string, format: DiskFormat, sizeBytes: number): Promise<void> {
  await qemuImg(path, ['resize', '-q', '-f', format, '--', path, size(sizeBytes)]);
}

/** Runs qemu-img with the rights of the image's owner. */
async function qemuImg(path: string, args: readonly string[]): Promise<{ readonly stdout: string }> {
  const { uid } = await stat(path);
  const isRoot = process.getuid?.() === 0;
  const drop =
    isRoot && uid !== 0
      ? [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--no-new-privs', '--', 'qemu-img']
      : null;
  return await runCommand(drop === null ? 'qemu-img' : 'setpriv', [...(drop ?? []), ...args], {
    timeoutMs,
    maxOutputBytes,
  });
}

function size(bytes: number): string {
  if (!Number.isSafeInteger(bytes) || bytes <= 0)
    throw new RangeError('a disk size is a positive whole number of bytes');
  return String(bytes);
}
