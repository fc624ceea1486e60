/** What can be said against a request for a VM by looking at it alone. */

import { BerthError } from '../common/errors.ts';
import { parseAddress } from '../net/cidr.ts';
import type { CreateVm } from './model.ts';

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
      bytesOf(request.name) <= maxNameBytes && !/\p{Cc}/u.test(request.name),
      `name must be at most ${maxNameBytes} bytes without control characters`,
    );
  checkLabels(request.labels ?? {});
  expect(
    bytesOf(request.apiRecord ?? '') <= maxApiRecordBytes,
    `what an API keeps with a VM must be at most ${maxApiRecordBytes} bytes`,
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
