import { readFile } from 'node:fs/promises';
import type { EngineUsage } from '../engine.ts';
import { readStat } from './qemu-process.ts';

/** Linux reports CPU time in units of 1/100 s on every architecture, and memory in pages, of 4 KiB on x86. */
const microsPerTick = 10_000;
const pageBytes = 4096;

/** What a process used; null when it is gone. */
export async function processUsage(pid: number): Promise<EngineUsage | null> {
  const stat = await readStat(pid);
  if (stat === null) return null;
  const memory = await readFile(`/proc/${pid}/statm`, 'utf8').catch(() => '0 0');
  return { cpuMicros: stat.cpuTicks * microsPerTick, residentBytes: Number(memory.split(' ')[1]) * pageBytes };
}
