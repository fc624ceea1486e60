import type { SystemInfo } from './protocol/guest-api.ts';

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [labels: Labels, value: number | bigint];

/** The machine in Prometheus' text format. All are gauges; load averages are times 100, sizes bytes. */
export function renderMetrics(system: SystemInfo): string {
  const one = (value: number | bigint): readonly Sample[] => [[{}, value]];
  const perDisk = (value: (disk: SystemInfo['disks'][number]) => number | bigint) =>
    system.disks.map((disk): Sample => [{ name: disk.name, mount_point: disk.mount_point }, value(disk)]);
  const gauges: readonly (readonly [name: string, help: string, samples: readonly Sample[]])[] = [
    ['system_os_name', 'Name of the operating system', [[{ os_name: system.os_name }, 1]]],
    ['system_os_version', 'Version of the operating system', [[{ os_version: system.os_version }, 1]]],
    ['system_kernel_version', 'Release of the kernel', [[{ kernel_version: system.kernel_version }, 1]]],
    ['system_cpu_model', 'Model of the processors', [[{ cpu_model: system.cpu_model }, 1]]],
    ['system_num_cpus', 'Number of processors', one(system.num_cpus)],
    ['system_memory_total', 'Memory', one(system.total_memory)],
    ['system_memory_available', 'Memory that programs can get', one(system.available_memory)],
    ['system_memory_used', 'Memory in use', one(system.used_memory)],
    ['system_memory_free', 'Memory nobody uses', one(system.free_memory)],
    ['system_swap_total', 'Swap space', one(system.total_swap)],
    ['system_swap_used', 'Swap space in use', one(system.used_swap)],
    ['system_swap_free', 'Swap space nobody uses', one(system.free_swap)],
    ['system_uptime', 'Seconds since the boot', one(system.uptime)],
    ['system_load_average_1m', 'Load average of one minute, times 100', one(system.loadavg_one)],
    ['system_load_average_5m', 'Load average of five minutes, times 100', one(system.loadavg_five)],
    ['system_load_average_15m', 'Load average of fifteen minutes, times 100', one(system.loadavg_fifteen)],
    ['disk_total_size', 'Size of the file system', perDisk((disk) => disk.total_size)],
    ['disk_free_size', 'Free space of the file system', perDisk((disk) => disk.free_size)],
    ['disk_used_size', 'Used space of the file system', perDisk((disk) => disk.total_size - disk.free_size)],
    [
      'disk_usage_percentage',
      'Used space of the file system in percent',
      perDisk(({ total_size: total, free_size: free }) => Number(((total - free) * 10_000n) / (total || 1n)) / 100),
    ],
  ];
  return gauges
    .flatMap(([name, help, samples]) => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} gauge`,
      ...samples.map(([labels, value]) => `${name}${renderLabels(labels)} ${value}`),
    ])
    .join('\n')
    .concat('\n');
}

function renderLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
