import { readFile, statfs } from 'node:fs/promises';
import { cpus, loadavg, release, uptime } from 'node:os';
import type { SystemInfo } from './protocol/guest-api.ts';

/**
 * The machine as the host and /metrics see it.
 * @param mountPoints file systems that are told of, those that exist
 */
export async function systemInfo(mountPoints: readonly string[]): Promise<SystemInfo> {
  const [osRelease, memory, mounts] = await Promise.all([
    readText('/etc/os-release'),
    readText('/proc/meminfo'),
    readText('/proc/mounts'),
  ]);
  const bytes = (name: string) => BigInt(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(memory)?.[1] ?? 0) * 1024n;
  const [total, available, swap, freeSwap] = [
    bytes('MemTotal'),
    bytes('MemAvailable'),
    bytes('SwapTotal'),
    bytes('SwapFree'),
  ];
  const processors = cpus();
  const [first] = processors;
  const [one = 0, five = 0, fifteen = 0] = loadavg().map((load) => Math.round(load * 100));
  return {
    os_name: osReleaseValue(osRelease, 'NAME'),
    os_version: osReleaseValue(osRelease, 'VERSION_ID'),
    kernel_version: release(),
    cpu_model: first ? `${first.model.trim()} @${first.speed} MHz` : '',
    num_cpus: processors.length,
    total_memory: total,
    available_memory: available,
    used_memory: total - available,
    free_memory: bytes('MemFree'),
    total_swap: swap,
    used_swap: swap - freeSwap,
    free_swap: freeSwap,
    uptime: BigInt(Math.floor(uptime())),
    loadavg_one: one,
    loadavg_five: five,
    loadavg_fifteen: fifteen,
    disks: (await Promise.all(mountPoints.map((path) => diskInfo(path, mounts)))).filter((disk) => disk !== null),
  };
}

async function diskInfo(path: string, mounts: string): Promise<SystemInfo['disks'][number] | null> {
  // What is mounted last at a place is what is seen there.
  const line = mounts
    .split('\n')
    .map((each) => each.split(' '))
    .findLast(([, mountPoint]) => mountPoint === path);
  if (line === undefined) return null;
  const { blocks, bsize, bavail } = await statfs(path, { bigint: true });
  return { name: line[0]!, mount_point: path, total_size: blocks * bsize, free_size: bavail * bsize };
}

function osReleaseValue(text: string, name: string): string {
  return new RegExp(`^${name}=(["']?)(.*)\\1$`, 'm').exec(text)?.[2] ?? '';
}

/** A file of /proc or /etc, empty where there is none. */
async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
