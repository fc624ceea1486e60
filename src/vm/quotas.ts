import { BerthError } from '../common/errors.ts';
import { diskTotalMiB, type Ledger, type Totals, without } from './ledger.ts';
import type { DataDisk, Vm } from './model.ts';

/** What the host lets VMs use in total, and one VM at most. */
export interface Quotas {
  readonly maxVms: number;
  readonly maxSnapshots: number;
  readonly maxCpusPerVm: number;
  readonly maxMemoryMiBPerVm: number;
  readonly minMemoryMiBPerVm: number;
  readonly maxDiskMiBPerVm: number;
  /** Sums over VMs that run or start. */
  readonly totalCpus: number;
  readonly totalMemoryMiB: number;
  /** Sum of virtual disk sizes over all VMs. */
  readonly totalDiskMiB: number;
  /** What one tenant may have of it; the host's own operator has no such limit. */
  readonly tenant: TenantQuotas;
}

export interface TenantQuotas {
  readonly maxVms: number;
  readonly maxSnapshots: number;
  /** Sums over VMs that run or start. */
  readonly totalCpus: number;
  readonly totalMemoryMiB: number;
  /** Sum of virtual disk sizes over all VMs. */
  readonly totalDiskMiB: number;
}

/** What a VM is to have. */
export interface VmSize {
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Of the root disk. */
  readonly diskMiB: number;
  readonly dataDisks: readonly DataDisk[];
}

/** Refuses sizes no VM may have. Throws `invalid_argument`. */
export function checkSize(size: VmSize, quotas: Quotas): void {
  inRange('cpus', size.cpus, 1, quotas.maxCpusPerVm);
  inRange('memoryMiB', size.memoryMiB, quotas.minMemoryMiBPerVm, quotas.maxMemoryMiBPerVm);
  inRange('diskMiB', size.diskMiB, 1, quotas.maxDiskMiBPerVm);
  for (const { name, sizeMiB } of size.dataDisks)
    inRange(`the MiB of disk ${name}`, sizeMiB, 1, quotas.maxDiskMiBPerVm);
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

/**
 * Checks the host's totals, and the tenant's, against what there is, `except` left out: the VM's own old record, and what makes room.
 * Throws `quota_exceeded` naming the resource.
 */
export function checkTotals(
  ledger: Pick<Ledger, 'host' | 'tenant'>,
  demand: VmSize,
  quotas: Quotas,
  {
    active,
    tenant,
    except = [],
    vms = 1,
  }: {
    readonly active: boolean;
    readonly tenant: string;
    readonly except?: readonly Vm[];
    /** How many VMs the demand is of. */
    readonly vms?: number;
  },
): void {
  checkAgainst('', except.reduce(without, ledger.host), { ...demand, vms }, quotas, active);
  if (tenant === '') return;
  const own = except.filter((vm) => vm.tenant === tenant).reduce(without, ledger.tenant(tenant));
  checkAgainst('tenant.', own, { ...demand, vms }, quotas.tenant, active);
}

/** Throws `quota_exceeded` unless the host, and the tenant, may have one snapshot more than those that there are. */
export function checkSnapshots(
  snapshots: readonly { readonly tenant: string }[],
  tenant: string,
  { maxSnapshots, tenant: limits }: Pick<Quotas, 'maxSnapshots' | 'tenant'>,
): void {
  exceeded('Snapshot', 'maxSnapshots', snapshots.length + 1, maxSnapshots);
  if (tenant === '') return;
  const own = snapshots.filter((snapshot) => snapshot.tenant === tenant).length;
  exceeded('Snapshot', 'tenant.maxSnapshots', own + 1, limits.maxSnapshots);
}

/** @param scope begins the names of the limits */
function checkAgainst(
  scope: string,
  used: Totals,
  demand: VmSize & { readonly vms: number },
  limits: Omit<TenantQuotas, 'maxSnapshots'>,
  active: boolean,
): void {
  exceeded('VM', `${scope}maxVms`, used.vms + demand.vms, limits.maxVms);
  exceeded('Disk', `${scope}totalDiskMiB`, used.diskMiB + diskTotalMiB(demand), limits.totalDiskMiB);
  if (!active) return;
  exceeded('CPU', `${scope}totalCpus`, used.cpus + demand.cpus, limits.totalCpus);
  exceeded('Memory', `${scope}totalMemoryMiB`, used.memoryMiB + demand.memoryMiB, limits.totalMemoryMiB);
}

function exceeded(resource: string, setting: string, value: number, limit: number): void {
  if (value > limit) throw new BerthError('quota_exceeded', { resource, limit: `${setting}=${limit}`, setting });
}
