/** What a configuration may ask for and no VM here is given. Empty and neutral values ask for nothing. */

import { BerthError } from '../../common/errors.ts';
import type {
  CpuConfig,
  MemoryConfig,
  NetworkInterface,
  StorageDevice,
  VmConfig,
} from './gen/vmprovisioner/v1/vm_pb.js';

/** `refuse` it; or `record` it, and give it back with the VM, as the original does with most of these. */
export type UnsupportedPolicy = 'refuse' | 'record';

/** Throws `invalid_argument` that names the first field which asks for something that is not there. */
export function refuseUnsupported(config: VmConfig): void {
  const [first] = complaints(config);
  if (first !== undefined) throw new BerthError('invalid_argument', { reason: first });
}

function* complaints({ cpu, memory, boot, storage, network, console }: VmConfig): Generator<string> {
  if (cpu) yield* ofCpu(cpu);
  if (memory) yield* ofMemory(memory);
  if (boot) yield* ofMap('boot boot_options', boot.bootOptions);
  for (const [index, device] of storage.entries()) yield* ofStorage(device, `storage device ${index}`);
  for (const [index, nic] of network.entries()) yield* ofNic(nic, `network interface ${index}`);
  if (console && console.input !== '') yield 'console input is not supported';
}

function* ofCpu({ vcpuCount, topology, features }: CpuConfig): Generator<string> {
  if (topology) {
    const { sockets, coresPerSocket, threadsPerCore } = topology;
    const isUnset = sockets === 0 && coresPerSocket === 0 && threadsPerCore === 0;
    const isOurs = sockets === 1 && coresPerSocket === vcpuCount && threadsPerCore === 1;
    if (!isUnset && !isOurs)
      yield 'cpu topology is not supported but for one socket with vcpu_count cores of one thread';
  }
  yield* ofMap('cpu features', features);
}

function* ofMemory({ hotplugEnabled, backing }: MemoryConfig): Generator<string> {
  if (hotplugEnabled) yield 'memory hotplug_enabled is not supported';
  yield* ofMap('memory backing', backing);
}

function* ofStorage({ options }: StorageDevice, where: string): Generator<string> {
  yield* ofMap(`${where}: options`, options);
}

function* ofNic({ tapDevice, options, ipv6Config }: NetworkInterface, where: string): Generator<string> {
  if (tapDevice !== '') yield `${where}: tap_device cannot be chosen`;
  yield* ofMap(`${where}: options`, options);
  // Addresses a guest makes up by itself would not pass the host's protection against forged ones.
  if (ipv6Config?.privacyExtensions) yield `${where}: privacy_extensions are not supported`;
  if (ipv6Config && ipv6Config.linkLocal !== '') yield `${where}: link_local cannot be chosen`;
}

function* ofMap(what: string, map: Readonly<Record<string, string>>): Generator<string> {
  const [name] = Object.keys(map);
  if (name !== undefined) yield `${what}: ${name.slice(0, 64)} is not supported`;
}
