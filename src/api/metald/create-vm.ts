/** What a client wants a VM to be, checked, as the VM service takes it. */

import { randomUUID } from 'node:crypto';
import { BerthError } from '../../common/errors.ts';
import type { ImageStore } from '../../image/images.ts';
import type { CreateDisk, CreateVm } from '../../vm/request.ts';
import { encodeApiRecord } from './api-record.ts';
import { fillBothNames } from './config.ts';
import { decodeNic } from './create-nic.ts';
import type {
  BootConfig,
  ConsoleConfig,
  CpuConfig,
  CreateVmRequest,
  MemoryConfig,
  StorageDevice,
  VmConfig,
} from './gen/vmprovisioner/v1/vm_pb.js';
import { refuseUnsupported, type UnsupportedPolicy } from './unsupported.ts';

const bytesPerMiB = 1024n * 1024n;
/** Limits of the reference; the host's own quotas may be lower. */
const maxCpus = 32;
const minMemoryMiB = 128;

const cpuTemplates = new Set(['', 'T2', 'T2S', 'T2CL', 'T2A', 'V1N1']);
const diskTypes = new Set(['', 'virtio', 'virtio-blk']);
const consoleTypes = new Set(['', 'serial', 'virtio', 'virtio_console']);

/** Where a path may stand, this names an image of the host. */
const imagePrefix = 'image:';

export interface CreateVmOptions {
  /** CIDRs that VMs may start connections to. */
  readonly allowIps: readonly string[];
  readonly images: Pick<ImageStore, 'find'>;
  readonly unsupported: UnsupportedPolicy;
}

/** Throws `invalid_argument` with the field's name, or `image_not_found`. Paths and quotas are the service's to check. */
export function decodeCreateVm(request: CreateVmRequest, tenant: string, options: CreateVmOptions): CreateVm {
  const { config } = request;
  if (!config) throw invalid('vm config is required');
  const { cpu, memory, boot } = config;
  if (!cpu) throw invalid('cpu configuration is required');
  if (!memory) throw invalid('memory configuration is required');
  if (!boot) throw invalid('boot configuration is required');
  fillBothNames(config);
  if (options.unsupported === 'refuse') refuseUnsupported(config);
  const id = request.vmId || newId();
  const sizes = { cpus: decodeCpus(cpu), memoryMiB: decodeMemory(memory) };
  const consoleFile = decodeConsole(config.console);
  return {
    id,
    name: nameOf(config.metadata.name ?? '', id),
    tenant,
    ...sizes,
    ...decodeBoot(boot, config, options.images),
    nics: config.network.map(decodeNic),
    egress: { outbound: options.allowIps.length > 0, allow: options.allowIps },
    labels: { ...config.metadata },
    ...(consoleFile === null ? {} : { consoleFile }),
    apiRecord: encodeApiRecord(config),
    start: false,
  };
}

/** Metadata may hold more than a name can: then the VM is called by its id. */
function nameOf(name: string, id: string): string {
  return name === '' || Buffer.byteLength(name) > 255 || /\p{Cc}/u.test(name) ? id : name;
}

/** In the form that the original's clients look for: `ud-` and 16 hex digits; all but a few bits of a UUID are random. */
function newId(): string {
  const uuid = randomUUID();
  return `ud-${uuid.slice(0, 8)}${uuid.slice(-8)}`;
}

function decodeCpus(cpu: CpuConfig): number {
  const { vcpuCount, maxVcpuCount } = cpu;
  if (vcpuCount <= 0) throw invalid('vcpu_count must be greater than 0');
  if (vcpuCount > maxCpus) throw invalid(`vcpu_count must be at most ${maxCpus}`);
  // An upper bound, and nothing makes a VM larger while it runs.
  if (maxVcpuCount !== 0 && maxVcpuCount < vcpuCount)
    throw invalid('max_vcpu_count must be greater than or equal to vcpu_count');
  if (!cpuTemplates.has(cpu.cpuTemplate)) throw invalid('cpu_template must be T2, T2S, T2CL, T2A or V1N1');
  return vcpuCount;
}

function decodeMemory(memory: MemoryConfig): number {
  const { sizeBytes, maxSizeBytes } = memory;
  if (sizeBytes <= 0n) throw invalid('memory size_bytes must be greater than 0');
  if (sizeBytes % bytesPerMiB !== 0n) throw invalid('memory size_bytes must be a whole number of MiB');
  const memoryMiB = Number(sizeBytes / bytesPerMiB);
  if (memoryMiB < minMemoryMiB) throw invalid(`memory size_bytes must be at least ${minMemoryMiB} MiB`);
  if (maxSizeBytes !== 0n && maxSizeBytes < sizeBytes)
    throw invalid('memory max_size_bytes must be greater than or equal to size_bytes');
  return memoryMiB;
}

type Boot = Pick<CreateVm, 'boot' | 'imageId' | 'guestChannel' | 'kernelArgs' | 'disks'>;

function decodeBoot(boot: BootConfig, config: VmConfig, images: CreateVmOptions['images']): Boot {
  const { kernelPath, initrdPath, kernelArgs } = boot;
  if (kernelPath === '') throw invalid('kernel_path is required');
  const image = imageName(kernelPath);
  if (image === null && config.storage.length === 0) throw invalid('at least one storage device is required');
  const root = rootIndex(config.storage);
  const disks = config.storage.map((device, index) => decodeDisk(device, index, index === root));
  const args = kernelArgs === '' ? {} : { kernelArgs };
  if (image === null) {
    const initrd = initrdPath === '' ? {} : { initrd: initrdPath };
    return { boot: { kernel: kernelPath, ...initrd }, guestChannel: 'optional', disks, ...args };
  }
  if (initrdPath !== '') throw invalid('initrd_path cannot be used with the kernel of an image');
  const rootDevice = root === null ? undefined : config.storage[root];
  if (rootDevice && imageName(rootDevice.path) !== image)
    throw invalid(`the root device of a VM with the kernel of an image must be ${imagePrefix}${image}`);
  if (rootDevice?.readOnly) throw invalid('the root device of a VM with the kernel of an image cannot be read-only');
  const found = images.find(image);
  if (!found) throw new BerthError('image_not_found');
  return { imageId: found.id, disks: disks.filter((disk) => disk.root !== true), ...args };
}

/** The first device is the root when none says so. */
function rootIndex(storage: readonly StorageDevice[]): number | null {
  const marked = storage.flatMap((device, index) => (device.isRootDevice ? index : []));
  if (marked.length > 1) throw invalid('only one storage device can be the root device');
  return marked[0] ?? (storage.length === 0 ? null : 0);
}

function decodeDisk(device: StorageDevice, index: number, root: boolean): CreateDisk {
  if (device.path === '') throw invalid(`storage device ${index} path is required`);
  if (!diskTypes.has(device.interfaceType))
    throw invalid(`storage device ${index} interface_type must be virtio-blk, or empty`);
  const image = imageName(device.path);
  return {
    name: device.id || (root ? 'rootfs' : `disk${index}`),
    source: image === null ? { asset: device.path } : { image },
    readOnly: device.readOnly,
    root,
  };
}

function imageName(path: string): string | null {
  return path.startsWith(imagePrefix) ? path.slice(imagePrefix.length) : null;
}

/** The name of the console's file: the last part of what was asked for, since the file is made in the VM's directory. */
function decodeConsole(console: ConsoleConfig | undefined): string | null {
  if (!console) return null;
  if (!consoleTypes.has(console.type.toLowerCase())) throw invalid('console type must be serial or VIRTIO_CONSOLE');
  if (console.output === '') return null;
  return console.output.split('/').at(-1) ?? '';
}

/** What the VM service calls otherwise than clients do, where it says what is wrong with a request. */
const clientsWords: readonly (readonly [ours: RegExp, theirs: string])[] = [
  [/^cpus\b/, 'vcpu_count'],
  [/^memoryMiB\b/, 'memory size_bytes in MiB'],
  [/^kernelArgs\b/, 'kernel_args'],
  [/^consoleFile\b/, 'console output: the name of the file'],
  [/^labels must be at most/, 'metadata: entries must be at most'],
  [/^the (key|value) of a label\b/, 'metadata: the $1 of an entry'],
  [/^the name of a disk\b/, 'storage: the id of a device'],
  [/^two disks have the same name$/, 'storage: two devices have the same id'],
  [/^the name of a network\b/, 'network: the id of an interface'],
  [/^two networks have the same name$/, 'network: two interfaces have the same id'],
];

/** The failure of a request, which names settings as the client did. */
export function inWordsOfClients(error: unknown): unknown {
  if (!(error instanceof BerthError) || error.code !== 'invalid_argument') return error;
  const reason = String(error.params.reason);
  const words = clientsWords.find(([ours]) => ours.test(reason));
  return words ? invalid(reason.replace(...words)) : error;
}

function invalid(reason: string): BerthError {
  return new BerthError('invalid_argument', { reason });
}
