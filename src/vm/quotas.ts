import { BerthError } from '../common/errors.ts';
import type { Quotas, Vm } from './model.ts';

/** What one more VM, or a bigger one, would use. */
export interface Demand {
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly diskMiB: number;
}

/** Refuses sizes no VM may have. Throws `invalid_argument`. */
export function checkSize(demand: Demand, quotas: Quotas): void {
  inRange('cpus', demand.cpus, 1, quotas.maxCpusPerVm);
  inRange('memoryMiB', demand.memoryMiB, quotas.minMemoryMiBPerVm, quotas.maxMemoryMiBPerVm);
  inRange('diskMiB', demand.diskMiB, 1, quotas.maxDiskMiBPerVm);
}

/** Longest time a VM may be asked to be idle before it is parked: a day. */
const maxParkAfterSeconds = 86_400;

/** Refuses times no VM may be idle for; null is the host's own. Throws `invalid_argument`. */
export function checkParkAfter(seconds: number | null): void {
  if (seconds !== null) inRange('parkAfterSeconds', seconds, 0, maxParkAfterSeconds);
}

function inRange(field: string, value: number, min: number, max: number): void {
  if (!Number.isSafeInteger(value) || value < min || value > max)
    throw new BerthError('invalid_argument', { reason: `${field} must be a whole number from ${min} to ${max}` });
}

/** Whether the VM holds, or is about to hold, processor and memory. */
function isActive(vm: Vm): boolean {
  return vm.state === 'starting' || vm.state === 'running' || vm.state === 'paused' || vm.state === 'stopping';
}

/**
 * Checks the host's totals against the VMs there are, `exceptId` left out (its own old size).
 * Throws `quota_exceeded` naming the resource.
 */
export function checkTotals(
  vms: readonly Vm[],
  demand: Demand,
  quotas: Quotas,
  options: { readonly active: boolean; readonly exceptId?: string },
): void {
  let count = 0;
  let cpus = 0;
  let memoryMiB = 0;
  let diskMiB = 0;
  for (const vm of vms) {
    if (vm.id === options.exceptId) continue;
    count++;
    diskMiB += vm.diskMiB;
    if (!isActive(vm)) continue;
    cpus += vm.cpus;
    memoryMiB += vm.memoryMiB;
  }
  exceeded('VM', 'maxVms', count + 1, quotas.maxVms);
  exceeded('Disk', 'totalDiskMiB', diskMiB + demand.diskMiB, quotas.totalDiskMiB);
  if (!options.active) return;
  exceeded('CPU', 'totalCpus', cpus + demand.cpus, quotas.totalCpus);
  exceeded('Memory', 'totalMemoryMiB', memoryMiB + demand.memoryMiB, quotas.totalMemoryMiB);
}

function exceeded(resource: string, setting: string, value: number, limit: number): void {
  if (value > limit) throw new BerthError('quota_exceeded', { resource, limit: `${setting}=${limit}`, setting });
}
