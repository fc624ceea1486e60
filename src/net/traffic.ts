import { readFile } from 'node:fs/promises';
import type { Traffic } from './network.ts';

/**
 * The counters of these taps, in the kernel's table of interfaces. What a tap received is what its guest sent. (sysfs has
 * them too, but shows the network namespace it was mounted in.)
 */
export async function readTraffic(taps: readonly string[]): Promise<ReadonlyMap<string, Traffic>> {
  return parseTraffic(await readFile('/proc/self/net/dev', 'utf8'), new Set(taps));
}

export function parseTraffic(table: string, taps: ReadonlySet<string>): ReadonlyMap<string, Traffic> {
  const found = new Map<string, Traffic>();
  for (const line of table.split('\n')) {
    const [name, counters] = line.split(':');
    const tap = name?.trim() ?? '';
    if (counters === undefined || !taps.has(tap)) continue;
    const [txBytes = 0, txPackets = 0, , , , , , , rxBytes = 0, rxPackets = 0] = counters
      .trim()
      .split(/\s+/)
      .map(Number);
    found.set(tap, { rxBytes, txBytes, rxPackets, txPackets });
  }
  return found;
}
