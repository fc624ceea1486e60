import { randomBytes } from 'node:crypto';
import { access, type FileHandle, link, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Makes the content of a file durable, or the names in a directory. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Makes files, and the directories new ones are in, durable side by side: the file system writes its journal once or twice
 * for all of them instead of once for each.
 */
export async function syncAll(paths: readonly string[]): Promise<void> {
  await Promise.all(paths.map(syncPath));
}

/** Replaces a file so that a reader, or a crash, sees the old content or the new and nothing between. */
export async function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o644): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncPath(dirname(path));
}

/** Removes what {@link writeFileAtomic} leaves in a directory when the process is killed. Nobody may be writing there. */
export async function sweepTemporaries(dir: string): Promise<void> {
  for (const name of await readdir(dir))
    if (/\.[0-9a-f]{12}\.tmp$/.test(name)) await rm(join(dir, name), { force: true });
}

/** Writes all of it: one call of the kernel may take less, as on a disk that is about to be full, and report no error. */
export async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}

export async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

/** Hard-links unless the name is there already, as after an operation that was cut off. */
export async function linkOnce(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}
