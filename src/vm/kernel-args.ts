import { createReadStream } from 'node:fs';
import { formatAddress } from '../net/cidr.ts';
import type { NetworkPlan } from '../net/network.ts';
import type { Vm } from './model.ts';

/** Every character on an emulated serial line costs time; warnings still come through. */
const imageArgs = ['quiet', '8250.nr_uarts=1', 'cryptomgr.notests'];

/**
 * Kernel parameters beside those of the engine. A kernel of the creator's is told where its root is and, if it can set up
 * its network by itself (CONFIG_IP_PNP), its first interface's address, unless the creator says so differently.
 */
export function kernelArgs(vm: Vm, plan: NetworkPlan): readonly string[] {
  const own = vm.kernelArgs.split(' ').filter((word) => word !== '');
  if (vm.boot === null) return [...imageArgs, ...own];
  const says = (key: string) => own.some((word) => word.startsWith(key));
  return [
    ...(says('root=') ? [] : ['root=/dev/vda', vm.rootDisk.readOnly ? 'ro' : 'rw']),
    ...(says('ip=') ? [] : addressArgs(vm, plan)),
    // Last: `--` and what follows is for the kernel's first program.
    ...own,
  ];
}

/** Documentation/admin-guide/nfs/nfsroot.rst: client, server, gateway, mask, host name, device, no protocol, resolver. */
function addressArgs(vm: Vm, plan: NetworkPlan): readonly string[] {
  const [nic] = vm.nics;
  if (nic === undefined || nic.families === 'ipv6') return [];
  const mask = formatAddress(4, (0xffffffffn << BigInt(32 - plan.prefix4)) & 0xffffffffn);
  const resolvers = (nic.nameservers ?? plan.nameservers).filter((address) => !address.includes(':')).slice(0, 2);
  return [
    [
      'ip=',
      nic.addresses.ipv4,
      '::',
      plan.gateway4 ?? '',
      ':',
      mask,
      '::eth0:off',
      ...resolvers.map((r) => `:${r}`),
    ].join(''),
  ];
}

/**
 * The machine for a kernel of the creator's. Devices are on PCI, which most kernels find, unless the kernel says that it
 * finds a microvm's (by the name these have in ACPI tables) or is told not to look for PCI.
 */
export async function machineFor(vm: Vm, kernel: string): Promise<'auto' | 'q35'> {
  if (vm.boot === null || vm.kernelArgs.split(' ').includes('pci=off')) return 'auto';
  return (await contains(kernel, 'LNRO0005')) ? 'auto' : 'q35';
}

async function contains(path: string, text: string): Promise<boolean> {
  let rest = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    const window = Buffer.concat([rest, chunk as Buffer]);
    if (window.includes(text, 0, 'latin1')) return true;
    rest = window.subarray(Math.max(0, window.length - text.length + 1));
  }
  return false;
}
