import { readFile } from 'node:fs/promises';
import type { EngineDiskUsage, EngineUsage } from '../engine.ts';
import { deviceId } from './qemu-args.ts';
import { readStat } from './qemu-process.ts';
import { isObject } from './qemu-qmp.ts';

/** Linux reports CPU time in units of 1/100 s on every architecture, and memory in pages, of 4 KiB on x86. */
const microsPerTick = 10_000;
const pageBytes = 4096;

/** CPU time a process used; null when it is gone. */
export async function processCpuMicros(pid: number): Promise<number | null> {
  const stat = await readStat(pid);
  return stat === null ? null : stat.cpuTicks * microsPerTick;
}

/** What a process used; null when it is gone. */
export async function processUsage(pid: number): Promise<Omit<EngineUsage, 'disks'> | null> {
  const stat = await readStat(pid);
  if (stat === null) return null;
  const memory = await readFile(`/proc/${pid}/statm`, 'utf8').catch(() => '0 0');
  return { pid, cpuMicros: stat.cpuTicks * microsPerTick, residentBytes: Number(memory.split(' ')[1]) * pageBytes };
}

/** What `query-blockstats` says, by disk name. */
export function diskUsage(blockStats: unknown): ReadonlyMap<string, EngineDiskUsage> {
  const prefix = deviceId('');
  const disks = new Map<string, EngineDiskUsage>();
  for (const device of Array.isArray(blockStats) ? blockStats : []) {
    if (!isObject(device) || typeof device.qdev !== 'string' || !isObject(device.stats)) continue;
    // On PCI the block device is a nameless part of the device that has the id.
    const id = device.qdev.replace(/^\/machine\/peripheral\//, '').replace(/\/virtio-backend$/, '');
    if (!id.startsWith(prefix)) continue;
    const { rd_bytes, wr_bytes, rd_operations, wr_operations } = device.stats;
    disks.set(id.slice(prefix.length), {
      readBytes: count(rd_bytes),
      writtenBytes: count(wr_bytes),
      reads: count(rd_operations),
      writes: count(wr_operations),
    });
  }
  return disks;
}

function count(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}
