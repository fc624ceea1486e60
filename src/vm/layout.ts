import { join } from 'node:path';

/**
 * Where a VM's files are. All belong to the daemon but the newest disk layer, which belongs to the VM's own uid: a VM's
 * process can change nothing but its disk. Names of layers are unique, and a layer
 * names the one below it relatively, so that a chain of hard links works in any directory.
 */
export class VmLayout {
  readonly home: string;

  constructor(home: string) {
    this.home = home;
  }

  get vmsRoot(): string {
    return join(this.home, 'vms');
  }

  get snapshotsRoot(): string {
    return join(this.home, 'snapshots');
  }

  dir(vmId: string): string {
    return join(this.vmsRoot, vmId);
  }

  /** The engine's directory, closed to everybody else: sockets and logs. */
  run(vmId: string): string {
    return join(this.dir(vmId), 'run');
  }

  manifest(vmId: string): string {
    return join(this.dir(vmId), 'manifest.json');
  }

  kernel(vmId: string): string {
    return join(this.dir(vmId), 'vmlinux');
  }

  /** What a data disk begins as. */
  dataBase(vmId: string, index: number): string {
    return join(this.dir(vmId), `${dataDiskName(index)}.base`);
  }

  /** What is written to a data disk; there is none where it is only read. */
  dataLayer(vmId: string, index: number): string {
    return join(this.dir(vmId), `${dataDiskName(index)}.qcow2`);
  }

  /** Directory of the creator's name for the console's log. */
  console(vmId: string): string {
    return join(this.dir(vmId), 'console');
  }

  initrd(vmId: string): string {
    return join(this.dir(vmId), 'initrd');
  }

  /** Where what is captured of a VM is put together, until it is a snapshot. */
  capture(vmId: string): string {
    return join(this.dir(vmId), 'capture');
  }

  snapshot(id: string): string {
    return join(this.snapshotsRoot, id);
  }
}

/** Root file system at the bottom of every chain of layers. */
export const baseName = 'base.ext4';

/** What engines call the disk that the guest sees first. */
export const rootDiskName = 'root';

/** What engines call the other disks, and how their files are named. */
export function dataDiskName(index: number): string {
  return `data${index}`;
}

export function isLayerName(name: string): boolean {
  return /^layer-[0-9a-f-]{36}\.qcow2$/.test(name);
}
