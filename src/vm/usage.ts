import type { VmDependencies } from './context.ts';
import { dataDiskName, rootDiskName } from './layout.ts';
import type { Vm } from './model.ts';

/** What a VM uses now and has used since its start. */
export interface VmUsage {
  readonly pid: number;
  /** CPU time of its process. */
  readonly cpuMicros: number;
  /** Memory its process holds on the host. */
  readonly residentBytes: number;
  readonly disks: readonly DiskUsage[];
  readonly nics: readonly NicUsage[];
}

export interface DiskUsage {
  readonly name: string;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly reads: number;
  readonly writes: number;
}

/** As the guest sees it: received is what came to it. */
export interface NicUsage {
  readonly name: string;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly txPackets: number;
}

const noDiskUsage = { readBytes: 0, writtenBytes: 0, reads: 0, writes: 0 };
const noTraffic = { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 };

/** The taps of a VM's interfaces. */
export function tapsOf(vm: Vm): readonly string[] {
  return vm.nics.map(({ addresses }) => addresses.tap);
}

/** What a VM uses, read from its process and its taps; null when it has no process. */
export async function vmUsage(
  vm: Vm,
  { engine, layout, network }: Pick<VmDependencies, 'engine' | 'layout' | 'network'>,
): Promise<VmUsage | null> {
  const [usage, traffic] = await Promise.all([engine.usage(vm.id, layout.run(vm.id)), network.traffic(tapsOf(vm))]);
  if (usage === null) return null;
  const disk = (name: string, engineName: string): DiskUsage => ({
    name,
    ...(usage.disks.get(engineName) ?? noDiskUsage),
  });
  return {
    pid: usage.pid,
    cpuMicros: usage.cpuMicros,
    residentBytes: usage.residentBytes,
    disks: [
      disk(vm.rootDisk.name, rootDiskName),
      ...vm.dataDisks.map(({ name }, index) => disk(name, dataDiskName(index))),
    ],
    nics: vm.nics.map(({ name, addresses }): NicUsage => ({ name, ...(traffic.get(addresses.tap) ?? noTraffic) })),
  };
}
