import { link, open } from 'node:fs/promises';
import { runCommand } from '../common/command.ts';

/** Ways a hard link can be refused although both paths are sound: another file system, too many links, not allowed. */
const refusals = ['EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP'];

/** Makes `to` a file with the content of `from`, which must never change: a hard link if may be, else a durable copy. */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!refusals.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    // Shares blocks where it can, and keeps the holes where it cannot.
    await runCommand('cp', ['--reflink=auto', '--sparse=always', '--', from, to], { timeoutMs: 600_000 });
    await using file = await open(to, 'r+');
    await file.sync();
  }
}
