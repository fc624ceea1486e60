/** What this API keeps with a VM: the configuration the client gave, whole, so that it is given back as it was. */

import { create, fromJson, type JsonValue, toJson } from '@bufbuild/protobuf';
import type { Vm } from '../../vm/model.ts';
import { type VmConfig, VmConfigSchema } from './gen/vmprovisioner/v1/vm_pb.js';

const bytesPerMiB = 1024n * 1024n;

export function encodeApiRecord(config: VmConfig): string {
  return JSON.stringify({ metald: toJson(VmConfigSchema, config) });
}

const parsed = new WeakMap<Vm, VmConfig>();

/** The configuration of a VM: as it was given, or, when another API made the VM, what it comes to. */
export function configOf(vm: Vm): VmConfig {
  let config = parsed.get(vm);
  if (!config) {
    config = storedConfig(vm) ?? describe(vm);
    parsed.set(vm, config);
  }
  return config;
}

function storedConfig({ apiRecord }: Vm): VmConfig | null {
  if (apiRecord === null || !apiRecord.startsWith('{"metald":')) return null;
  const { metald } = JSON.parse(apiRecord) as { readonly metald: JsonValue };
  return fromJson(VmConfigSchema, metald, { ignoreUnknownFields: true });
}

function describe(vm: Vm): VmConfig {
  return create(VmConfigSchema, {
    cpu: { vcpuCount: vm.cpus },
    memory: { sizeBytes: BigInt(vm.memoryMiB) * bytesPerMiB },
    boot: { kernelArgs: vm.kernelArgs, ...(vm.imageId === null ? {} : { kernelPath: `image:${vm.imageId}` }) },
    network: vm.nics.map(({ name, addresses: { mac } }) => ({
      id: name,
      interfaceId: name,
      macAddress: mac,
      guestMac: mac,
    })),
    metadata: { ...vm.labels },
  });
}
