/** From Berth's records to this dialect's messages. */

import { create } from '@bufbuild/protobuf';
import type { Vm } from '../../vm/model.ts';
import { configOf } from './api-record.ts';
import {
  type GetVmInfoResponse,
  GetVmInfoResponseSchema,
  type VmInfo,
  VmInfoSchema,
  type VmMetrics,
  VmMetricsSchema,
  type VmNetworkInfo,
  VmNetworkInfoSchema,
} from './gen/vmprovisioner/v1/vm_pb.js';
import type { NetworkFacts } from './ports.ts';
import { wireState } from './states.ts';
import type { Sample } from './usage.ts';

const bytesPerMiB = 1024n * 1024n;

const infos = new WeakMap<Vm, VmInfo>();

/** A VM as an item of a list; made once for each record. */
export function encodeVmInfo(vm: Vm): VmInfo {
  let info = infos.get(vm);
  if (!info) {
    info = create(VmInfoSchema, {
      vmId: vm.id,
      state: wireState(vm),
      vcpuCount: vm.cpus,
      memorySizeBytes: BigInt(vm.memoryMiB) * bytesPerMiB,
      createdTimestamp: seconds(vm.createdAt),
      modifiedTimestamp: seconds(vm.changedAt),
      metadata: { ...vm.labels },
      customerId: vm.tenant,
      config: configOf(vm),
      createdAt: vm.createdAt,
    });
    infos.set(vm, info);
  }
  return info;
}

/** What surrounds a VM's configuration and labels in a list, about, bytes. */
const itemBytes = 512;

const sizes = new WeakMap<Vm, number>();

/** About how long a VM is as an item of a list, bytes; found once for each record. */
export function sizeOf(vm: Vm): number {
  let size = sizes.get(vm);
  if (size === undefined) {
    size = itemBytes + Buffer.byteLength(vm.apiRecord ?? vm.kernelArgs) + Buffer.byteLength(JSON.stringify(vm.labels));
    sizes.set(vm, size);
  }
  return size;
}

export function encodeVmDetails(
  vm: Vm,
  sample: Sample | null,
  controlSocket: string,
  network: NetworkFacts,
): GetVmInfoResponse {
  const info = create(GetVmInfoResponseSchema, {
    vmId: vm.id,
    config: configOf(vm),
    state: wireState(vm),
    backendInfo: {
      backend_type: vm.engine,
      ...(sample === null ? {} : { process_id: String(sample.usage.pid), socket_path: controlSocket }),
    },
    networkInfo: encodeNetwork(vm, network),
  });
  if (sample !== null) info.metrics = encodeMetrics(sample);
  return info;
}

function encodeMetrics({ usage, cpuPercent, uptimeSeconds }: Sample): VmMetrics {
  const disks = sums(usage.disks);
  const nics = sums(usage.nics);
  return create(VmMetricsSchema, {
    cpuUsagePercent: Math.round(cpuPercent * 100) / 100,
    memoryUsageBytes: BigInt(Math.round(usage.residentBytes)),
    networkStats: {
      bytesReceived: nics('rxBytes'),
      bytesTransmitted: nics('txBytes'),
      packetsReceived: nics('rxPackets'),
      packetsTransmitted: nics('txPackets'),
    },
    storageStats: {
      bytesRead: disks('readBytes'),
      bytesWritten: disks('writtenBytes'),
      readOperations: disks('reads'),
      writeOperations: disks('writes'),
    },
    uptimeSeconds: BigInt(uptimeSeconds),
    cpuTimeNanos: BigInt(Math.round(usage.cpuMicros * 1000)),
    diskReadBytes: disks('readBytes'),
    diskWriteBytes: disks('writtenBytes'),
    networkRxBytes: nics('rxBytes'),
    networkTxBytes: nics('txBytes'),
  });
}

/** Adds up one field over a VM's devices. */
function sums<T>(
  devices: readonly T[],
): (field: { [K in keyof T]: T[K] extends number ? K : never }[keyof T]) => bigint {
  return (field) => devices.reduce((sum, device) => sum + BigInt(device[field] as number), 0n);
}

function encodeNetwork(vm: Vm, facts: NetworkFacts): VmNetworkInfo {
  const [first] = vm.nics;
  if (!first) return create(VmNetworkInfoSchema);
  const { ipv4, ipv6, mac, tap } = first.addresses;
  const useIpv6 = first.families === 'ipv6';
  return create(VmNetworkInfoSchema, {
    ipAddress: (useIpv6 ? ipv6 : ipv4) ?? '',
    macAddress: mac,
    tapDevice: tap,
    gateway: (useIpv6 ? facts.gateway6 : facts.gateway4) ?? '',
    dnsServers: [...(first.nameservers ?? facts.nameservers)],
    interfaces: vm.nics.map(({ name, families, addresses }) => ({
      interfaceId: name,
      tapDevice: addresses.tap,
      guestMac: addresses.mac,
      hostDeviceName: addresses.tap,
      ipv4Address: families === 'ipv6' ? '' : addresses.ipv4,
      ipv6Address: families === 'ipv4' ? '' : (addresses.ipv6 ?? ''),
    })),
  });
}

function seconds(iso: string): bigint {
  return BigInt(Math.floor(Date.parse(iso) / 1000));
}
