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

/**
 * The last `tail` lines (1 to 1000) of a log, looking at no more than its last 256 KiB. What was moved to `<path>.1` is
 * its beginning.
 */
export async function readLogTail(path: string, tail: number): Promise<LogTail> {
  const current = await readEnd(path, maxBytes);
  if (!current) return { lines: [], truncated: false, updatedAt: null };
  const older = await readEnd(`${path}.1`, maxBytes - current.bytes.length);
  const isCut = (older?.isCut ?? false) || current.isCut;
  const text = Buffer.concat([older?.bytes ?? Buffer.alloc(0), current.bytes]).toString('utf8');
  const lines = text.split(/\r*\n/);
  if (lines.at(-1) === '') lines.pop();
  // The first line is a fragment when the window begins inside a file.
  if (isCut) lines.shift();
  const wanted = Math.min(Math.max(1, tail), maxTailLines);
  return {
    lines: lines.slice(-wanted),
    truncated: isCut || lines.length > wanted,
    updatedAt: current.mtime.toISOString(),
  };
}

/** The last bytes of a file, at most `limit`; null when there is no such file. */
async function readEnd(path: string, limit: number) {
  const handle = await open(path, 'r').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (!handle) return null;
  try {
    const { size, mtime } = await handle.stat();
    const start = Math.max(0, size - limit);
    const buffer = Buffer.alloc(size - start);
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, start);
    return { bytes: buffer.subarray(0, bytesRead), isCut: start > 0, mtime };
  } finally {
    await handle.close();
  }
}
