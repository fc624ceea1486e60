import { statfsSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import type { Quotas } from '../vm/quotas.ts';
import type { Config } from './settings.ts';

const bytesPerMiB = 1024 * 1024;

/** Idle sandboxes share processors well, and most leave most of their disk unwritten; memory is not promised twice. */
const cpusPerCore = 16;

/** What one tenant may have of the host, unless that is set: no tenant can take all that others would need. */
const tenantShare = 0.75;

/** What VMs may use: as configured, else from what the host really has. */
export function hostQuotas(config: Config, addresses: number): Quotas {
  const { blocks, bsize } = statfsSync(config.home);
  const totalMemoryMiB = config['quota.total_memory_mib'] || Math.floor((totalmem() / bytesPerMiB) * 0.9);
  const minMemoryMiBPerVm = config['quota.min_memory_mib_per_vm'];
  const host = {
    maxVms: config['quota.max_vms'] || Math.min(addresses, Math.max(1, Math.floor(totalMemoryMiB / minMemoryMiBPerVm))),
    maxSnapshots: config['quota.max_snapshots'],
    maxCpusPerVm: config['quota.max_cpus_per_vm'],
    minMemoryMiBPerVm,
    maxMemoryMiBPerVm: config['quota.max_memory_mib_per_vm'],
    maxDiskMiBPerVm: config['quota.max_disk_mib_per_vm'],
    totalCpus: config['quota.total_cpus'] || availableParallelism() * cpusPerCore,
    totalMemoryMiB,
    totalDiskMiB:
      config['quota.total_disk_mib'] || Math.floor((blocks * bsize * config['quota.disk_overcommit']) / bytesPerMiB),
  };
  const share = (total: number) => Math.max(1, Math.floor(total * tenantShare));
  return {
    ...host,
    tenant: {
      maxVms: config['quota.tenant_max_vms'] || share(host.maxVms),
      maxSnapshots: config['quota.tenant_max_snapshots'] || share(host.maxSnapshots),
      totalCpus: config['quota.tenant_total_cpus'] || share(host.totalCpus),
      totalMemoryMiB: config['quota.tenant_total_memory_mib'] || share(host.totalMemoryMiB),
      totalDiskMiB: config['quota.tenant_total_disk_mib'] || share(host.totalDiskMiB),
    },
  };
}
