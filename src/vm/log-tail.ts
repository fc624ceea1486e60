import { open } from 'node:fs/promises';

const maxBytes = 256 * 1024;
const maxTailLines = 1000;

export interface LogTail {
  readonly lines: readonly string[];
  /** Lines before these exist. */
  readonly truncated: boolean;
  /** Null when there is no such log yet. */
  readonly updatedAt: string | null;
}

/** The last `tail` lines (1 to 1000) of a log file, looking at no more than its last 256 KiB. */
export async function readLogTail(path: string, tail: number): Promise<LogTail> {
  const handle = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (!handle) return { lines: [], truncated: false, updatedAt: null };
  try {
    const { size, mtime } = await handle.stat();
    const start = Math.max(0, size - maxBytes);
    const buffer = Buffer.alloc(size - start);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, start);
    const lines = buffer.subarray(0, bytesRead).toString('utf8').split(/\r*\n/);
    if (lines.at(-1) === '') lines.pop();
    // The first line is a fragment when the window begins inside the file.
    if (start > 0) lines.shift();
    const wanted = Math.min(Math.max(1, tail), maxTailLines);
    return {
      lines: lines.slice(-wanted),
      truncated: start > 0 || lines.length > wanted,
      updatedAt: mtime.toISOString(),
    };
  } finally {
    await handle.close();
  }
}
