/** What a new VM is asked to be, and what can be said against that by looking at it alone. */

import { BerthError } from '../common/errors.ts';
import { parseAddress } from '../net/cidr.ts';
import type { Egress, IpFamilies, RateLimit } from '../net/network.ts';
import type { GuestChannel } from './model.ts';

export interface CreateNic {
  /** 1 to 32 letters, digits, `.`, `-` or `_`; unique in the VM. */
  readonly name: string;
  /** Unicast, any case; omitted: made by the host. Throws `conflict` when another VM has it. */
  readonly mac?: string;
  /** Default `dual`, which is IPv4 alone on a host without IPv6. */
  readonly families?: IpFamilies;
  /**
   * Omitted: chosen by the host. It must be a free address of the host's network, with its prefix and gateway where those
   * are given: `invalid_argument` or `conflict` otherwise.
   */
  readonly ipv4?: StaticAddress;
  readonly ipv6?: StaticAddress;
  /** At most 8 addresses. Omitted: the host's resolver. */
  readonly nameservers?: readonly string[];
  readonly rxLimit?: RateLimit;
  readonly txLimit?: RateLimit;
}

export interface StaticAddress {
  readonly address: string;
  readonly prefix?: number;
  readonly gateway?: string;
}

export interface CreateDisk {
  /** 1 to 32 letters, digits, `.`, `-` or `_`; unique in the VM. */
  readonly name: string;
  /** Absolute path of a file in an asset directory; or the id or name of an image, for its root file system. */
  readonly source: { readonly asset: string } | { readonly image: string };
  /** Default false: a private layer over the source takes what is written. */
  readonly readOnly?: boolean;
  /** The disk the guest sees first. Exactly one with `boot`; none otherwise, where it is the image's or snapshot's. */
  readonly root?: boolean;
  /** Virtual size; smaller than the source is raised to it; omitted, or for a disk that is only read: the source's. */
  readonly sizeMiB?: number;
}

export interface CreateVm {
  readonly id?: string;
  readonly name?: string;
  readonly tenant?: string;
  /** Whole number, at least 1. */
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Virtual size of the root disk; smaller than the image's rootfs is raised to it; omitted: the configured default. */
  readonly diskMiB?: number;
  /** Omitted: the snapshot's image, else the default image. */
  readonly imageId?: string;
  readonly snapshotId?: string;
  /** Whether to go on from the snapshot's memory, where it has any, instead of booting from its disk; default true. */
  readonly restoreMemory?: boolean;
  /**
   * A kernel of the creator's instead of an image or snapshot: absolute paths of files in asset directories. Needs a disk
   * with `root`.
   */
  readonly boot?: { readonly kernel: string; readonly initrd?: string };
  /** Printable ASCII, at most 1024 bytes. */
  readonly kernelArgs?: string;
  /** Default `required`; `boot` needs `optional`. */
  readonly guestChannel?: GuestChannel;
  /** At most 8. */
  readonly disks?: readonly CreateDisk[];
  /** At most 8; omitted or empty: one, `eth0`. */
  readonly nics?: readonly CreateNic[];
  readonly egress: Egress;
  /** At most 64 pairs; keys of 1 to 256 bytes, values of at most 4096. */
  readonly labels?: Readonly<Record<string, string>>;
  /** 1 to 64 letters, digits, `.`, `-` or `_`. */
  readonly consoleFile?: string;
  /** At most 64 KiB. */
  readonly apiRecord?: string;
  /** Whole seconds, at most a day; 0: never; null or omitted: as the host is configured. */
  readonly parkAfterSeconds?: number | null;
  /** False leaves the VM in `created`, which has no files yet; default true. */
  readonly start?: boolean;
  /** See {@link Vm.hidden}; default false. */
  readonly hidden?: boolean;
}

/** Ids become file names, and part of socket paths that have a limit. */
const idPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$/;
const deviceName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/;
const fileName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const tenantPattern = /^[\x21-\x7e]{0,128}$/;
const macPattern = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i;

const maxNameBytes = 255;
const maxLabels = 64;
const maxLabelKeyBytes = 256;
const maxLabelValueBytes = 4096;
const maxApiRecordBytes = 64 * 1024;
/** The kernel takes 2048 bytes in all, and Berth and the engine have parameters of their own. */
const maxKernelArgs = 1024;
const maxDevices = 8;
const maxNameservers = 8;

/** Throws `invalid_argument` with the name of what is wrong. */
export function checkRequest(request: CreateVm): void {
  if (request.id !== undefined)
    expect(idPattern.test(request.id), 'an id is 1 to 40 letters, digits, - or _, a letter or digit first');
  expect(tenantPattern.test(request.tenant ?? ''), 'tenant must be at most 128 printable characters without spaces');
  if (request.name !== undefined)
    expect(
      bytesOf(request.name) <= maxNameBytes && !/[\p{Cc}\p{Cs}]/u.test(request.name),
      `name must be at most ${maxNameBytes} bytes without control characters`,
    );
  checkLabels(request.labels ?? {});
  const apiRecord = request.apiRecord ?? '';
  expect(
    bytesOf(apiRecord) <= maxApiRecordBytes && apiRecord.isWellFormed(),
    `what an API keeps with a VM must be at most ${maxApiRecordBytes} bytes of well-formed Unicode`,
  );
  if (request.consoleFile !== undefined)
    expect(fileName.test(request.consoleFile), 'consoleFile must be 1 to 64 letters, digits, ., - or _');
  const kernelArgs = request.kernelArgs ?? '';
  expect(
    kernelArgs.length <= maxKernelArgs && /^[\x20-\x7e]*$/.test(kernelArgs),
    `kernelArgs must be at most ${maxKernelArgs} printable ASCII characters`,
  );
  checkBoot(request);
  checkNics(request);
}

function checkLabels(labels: Readonly<Record<string, string>>): void {
  const entries = Object.entries(labels);
  expect(entries.length <= maxLabels, `labels must be at most ${maxLabels}`);
  for (const [key, value] of entries) {
    expect(
      key.length > 0 && bytesOf(key) <= maxLabelKeyBytes,
      `the key of a label must be 1 to ${maxLabelKeyBytes} bytes`,
    );
    expect(bytesOf(value) <= maxLabelValueBytes, `the value of a label must be at most ${maxLabelValueBytes} bytes`);
    expect(key.isWellFormed() && value.isWellFormed(), 'labels must be well-formed Unicode');
  }
}

function checkBoot({ boot, disks = [], imageId, snapshotId, guestChannel = 'required' }: CreateVm): void {
  expect(disks.length <= maxDevices, `disks must be at most ${maxDevices}`);
  checkNames('disk', disks);
  const roots = disks.filter(({ root }) => root === true).length;
  if (boot === undefined) {
    expect(roots === 0, 'the root disk of a VM without a kernel of its own is that of its image or snapshot');
    return;
  }
  expect(imageId === undefined && snapshotId === undefined, 'a VM has a kernel of its own, or an image, or a snapshot');
  expect(guestChannel === 'optional', 'the guest of a kernel of its own has no channel to Berth');
  expect(roots === 1, 'exactly one disk must be the root disk');
}

function checkNics({ nics = [] }: CreateVm): void {
  expect(nics.length <= maxDevices, `networks must be at most ${maxDevices}`);
  checkNames('network', nics);
  for (const { name, mac, families = 'dual', ipv4, ipv6, nameservers = [] } of nics) {
    expect(
      mac === undefined || macPattern.test(mac),
      `network ${name}: a MAC is six pairs of hexadecimal digits, joined by colons`,
    );
    expect(families !== 'ipv6' || ipv4 === undefined, `network ${name}: an IPv4 address where there is to be none`);
    expect(families !== 'ipv4' || ipv6 === undefined, `network ${name}: an IPv6 address where there is to be none`);
    expect(nameservers.length <= maxNameservers, `network ${name}: name servers must be at most ${maxNameservers}`);
    for (const address of nameservers) parseAddress(address);
  }
}

function checkNames(what: string, devices: readonly { readonly name: string }[]): void {
  for (const { name } of devices)
    expect(deviceName.test(name), `the name of a ${what} must be 1 to 32 letters, digits, ., - or _`);
  expect(new Set(devices.map(({ name }) => name)).size === devices.length, `two ${what}s have the same name`);
}

function expect(holds: boolean, reason: string): void {
  if (!holds) throw new BerthError('invalid_argument', { reason });
}

function bytesOf(text: string): number {
  return Buffer.byteLength(text);
}
