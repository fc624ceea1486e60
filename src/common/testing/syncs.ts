import { type FileHandle, open, readlink } from 'node:fs/promises';
import { devNull } from 'node:os';
import type { TestContext } from 'node:test';

/**
 * Tells what is made durable until the test ends, which no file shows afterwards.
 * @param onSync is given the path of each file and directory just before it is synced
 */
export async function watchSyncs(test: TestContext, onSync: (path: string) => void): Promise<void> {
  await using handle = await open(devNull, 'r');
  const prototype: FileHandle = Object.getPrototypeOf(handle);
  const { sync } = prototype;
  test.mock.method(prototype, 'sync', async function (this: FileHandle) {
    onSync(await readlink(`/proc/self/fd/${this.fd}`));
    return sync.call(this);
  });
}
