import { readFile } from 'node:fs/promises';

/** Identifies this boot of the host. */
export async function hostBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}
