import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const helper = fileURLToPath(new URL('sealed-memory.pl', import.meta.url));

/**
 * A file in the host's memory whose content is final: `fill` writes it, then the kernel refuses every change, to root as
 * well. Any number of processes may map it privately; it takes memory until the last of them has gone and the handle is
 * closed. Rejects with what `fill` rejects with.
 */
export async function createSealedMemory(
  bytes: number,
  fill: (target: FileHandle) => Promise<void>,
): Promise<FileHandle> {
  const child = spawn('perl', [helper, String(bytes)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  // A helper that has died is noticed by its missing answer.
  child.stdin.on('error', () => {});
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the helper that makes sealed memory ended');
    return value;
  };
  try {
    const path = `/proc/${child.pid}/fd/${Number(await answer())}`;
    {
      await using target = await open(path, 'r+');
      await fill(target);
    }
    child.stdin.write('seal\n');
    if ((await answer()) !== 'sealed') throw new Error('memory could not be sealed');
    return await open(path, 'r');
  } finally {
    child.stdin.end();
    await ended;
  }
}
