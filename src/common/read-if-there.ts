import { readFileSync } from 'node:fs';

/**
 * The text of a file, or null when there is none. At once, for the small files of a start: each trip to a thread and back is
 * felt in an emulated VM.
 */
export function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
