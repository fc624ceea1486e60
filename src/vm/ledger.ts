import type { DataDisk, Vm, VmAddresses } from './model.ts';

/** What VMs have between them. */
export interface Totals {
  readonly vms: number;
  /** Of those that run or start. */
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Virtual sizes of disks that are written to. */
  readonly diskMiB: number;
}

const nothing: Totals = { vms: 0, cpus: 0, memoryMiB: 0, diskMiB: 0 };

/**
 * What is held by the VMs there are: leases, uids, and sums for the host and for each tenant. Kept with every change of a
 * record, so that a new VM costs the same whether there are ten others or ten thousand.
 */
export class Ledger {
  readonly #parts = new Set<string>();
  readonly #uids = new Set<number>();
  #host = nothing;
  readonly #tenants = new Map<string, Totals>();
  /** No address, or uid, below is free: searches begin here. */
  #lowestAddress = 0;
  #lowestUid = 0;

  /** Enters a VM's record in the place of an earlier one; undefined where there was, or is, none. */
  replace(before: Vm | undefined, after: Vm | undefined): void {
    if (before) this.#count(before, -1);
    if (after) this.#count(after, 1);
    // What is written as it was claimed, and most changes, leave the leases as they are.
    if (before?.nics === after?.nics && before?.uid === after?.uid) return;
    if (before) this.#lease(before, -1);
    if (after) this.#lease(after, 1);
  }

  get host(): Totals {
    return this.#host;
  }

  tenant(name: string): Totals {
    return this.#tenants.get(name) ?? nothing;
  }

  /** Whether some VM holds the address, MAC or tap. */
  holds(part: string): boolean {
    return this.#parts.has(part);
  }

  /** The lowest uid from `base` on that no VM has, among `count`; null when all are held. */
  freeUid(base: number, count: number): number | null {
    for (let uid = Math.max(base, this.#lowestUid); uid < base + count; uid++) {
      if (this.#uids.has(uid)) continue;
      this.#lowestUid = uid;
      return uid;
    }
    return null;
  }

  /** An IPv4 address, as a number, below which every address of a pool that was searched is held. */
  get lowestAddress(): number {
    return this.#lowestAddress;
  }

  /** Notes that a search found nothing free below `address`. */
  searchedUpTo(address: number): void {
    this.#lowestAddress = address;
  }

  #count(vm: Vm, sign: 1 | -1): void {
    const demand = demandOf(vm);
    this.#host = sum(this.#host, demand, sign);
    const tenant = sum(this.tenant(vm.tenant), demand, sign);
    if (tenant.vms === 0) this.#tenants.delete(vm.tenant);
    else this.#tenants.set(vm.tenant, tenant);
  }

  #lease(vm: Vm, sign: 1 | -1): void {
    for (const { addresses } of vm.nics) {
      for (const part of partsOf(addresses)) {
        if (sign === 1) this.#parts.add(part);
        else this.#parts.delete(part);
      }
      if (sign === -1) this.#lowestAddress = Math.min(this.#lowestAddress, ipv4Number(addresses.ipv4));
    }
    if (vm.uid === null) return;
    if (sign === 1) this.#uids.add(vm.uid);
    else {
      this.#uids.delete(vm.uid);
      this.#lowestUid = Math.min(this.#lowestUid, vm.uid);
    }
  }
}

/** What a VM's disks may come to take: those that are only read take nothing of their own. */
export function diskTotalMiB(disks: { readonly diskMiB: number; readonly dataDisks: readonly DataDisk[] }): number {
  return disks.dataDisks.reduce((total, disk) => total + (disk.readOnly ? 0 : disk.sizeMiB), disks.diskMiB);
}

/** Totals without one VM: its own old size, where that is about to change. */
export function without(totals: Totals, vm: Vm): Totals {
  return sum(totals, demandOf(vm), -1);
}

export function partsOf({ ipv4, ipv6, mac, tap }: VmAddresses): readonly string[] {
  return ipv6 === null ? [ipv4, mac, tap] : [ipv4, ipv6, mac, tap];
}

export function ipv4Number(text: string): number {
  return text.split('.').reduce((number, byte) => number * 256 + Number(byte), 0);
}

function demandOf(vm: Vm): Totals {
  const isActive = ['starting', 'running', 'paused', 'stopping'].includes(vm.state);
  return {
    vms: 1,
    cpus: isActive ? vm.cpus : 0,
    memoryMiB: isActive ? vm.memoryMiB : 0,
    diskMiB: diskTotalMiB(vm),
  };
}

function sum(a: Totals, b: Totals, sign: 1 | -1): Totals {
  return {
    vms: a.vms + sign * b.vms,
    cpus: a.cpus + sign * b.cpus,
    memoryMiB: a.memoryMiB + sign * b.memoryMiB,
    diskMiB: a.diskMiB + sign * b.diskMiB,
  };
}
