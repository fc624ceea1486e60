import { createHash } from 'node:crypto';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { BerthError } from '../common/errors.ts';
import { exists, linkOnce, writeFileAtomic } from '../common/files.ts';
import { memoryIndexSchema, readExactly } from './memory-file.ts';

/** Largest device state that is taken for one, bytes. */
const maxStateBytes = 64 * 1024 * 1024;

const manifestSchema = z.object({
  version: z.literal(1),
  /** The engine's fingerprint of what the memory belongs to. */
  fingerprint: z.string(),
  /** Rate, kHz, of the counter by which the guest was told to tell the time; null, or absent in older ones: not known. */
  counterKhz: z.number().positive().nullable().default(null),
  /** Lower-case hex SHA-256 of the device state. */
  stateSha256: z.string().regex(/^[0-9a-f]{64}$/),
  memory: memoryIndexSchema,
});

/** What a directory with captured memory says of itself; beside it are the device state and the memory. */
export type MemoryManifest = z.infer<typeof manifestSchema>;

export function memoryFiles(dir: string) {
  return { manifest: join(dir, 'memory.json'), state: join(dir, 'state'), memory: join(dir, 'memory') } as const;
}

export async function writeMemoryManifest(dir: string, manifest: Omit<MemoryManifest, 'version'>): Promise<void> {
  await writeFileAtomic(memoryFiles(dir).manifest, JSON.stringify({ version: 1, ...manifest }), 0o600);
}

/** Whether a directory has captured memory. */
export function hasMemory(dir: string): Promise<boolean> {
  return exists(memoryFiles(dir).manifest);
}

/** Gives a VM that goes on from captured memory the means to be captured itself later: what it has not changed is there. */
export async function linkMemory(from: string, to: string): Promise<void> {
  const [source, target] = [memoryFiles(from), memoryFiles(to)];
  try {
    await linkOnce(source.memory, target.memory);
    // Last: it says that the rest is there.
    await linkOnce(source.manifest, target.manifest);
  } catch (error) {
    throw new BerthError('snapshot_damaged', {}, error);
  }
}

/** Removes what {@link linkMemory} made, or does nothing. */
export async function forgetMemory(dir: string): Promise<void> {
  const files = memoryFiles(dir);
  await rm(files.manifest, { force: true });
  await rm(files.memory, { force: true });
}

/** Throws `snapshot_damaged` when it is missing or not one of ours. */
export async function readMemoryManifest(dir: string): Promise<MemoryManifest> {
  try {
    return manifestSchema.parse(JSON.parse(await readFile(memoryFiles(dir).manifest, 'utf8')));
  } catch (error) {
    throw new BerthError('snapshot_damaged', {}, error);
  }
}

/** The device state's checksum. Throws `snapshot_damaged` when there is no such file, or none of its kind. */
export async function stateChecksum(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r');
    // Before it is read: the process that wrote it may be its guest's.
    const { size } = await file.stat();
    if (size === 0 || size > maxStateBytes) throw new Error(`a device state of ${size} bytes`);
    return createHash('sha256')
      .update(await readExactly(file, size, 0))
      .digest('hex');
  } catch (error) {
    throw new BerthError('snapshot_damaged', {}, error);
  }
}
