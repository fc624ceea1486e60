/**
 * The two vocabularies of a VM's configuration. The reference names some settings otherwise than the original's proto
 * does; either name may be sent, and both are sent back.
 */

import { create } from '@bufbuild/protobuf';
import { BerthError } from '../../common/errors.ts';
import {
  type ConsoleConfig,
  DirectionlessRateLimitSchema,
  type NetworkInterface,
  type RateLimit,
  RateLimitSchema,
  type StorageDevice,
  type VmConfig,
} from './gen/vmprovisioner/v1/vm_pb.js';

/** Fills in the other name of each setting, in place. Throws `invalid_argument` when both are given and differ. */
export function fillBothNames(config: VmConfig): void {
  for (const [index, device] of config.storage.entries()) unifyStorage(device, `storage device ${index}`);
  for (const [index, nic] of config.network.entries()) unifyNic(nic, `network interface ${index}`);
  if (config.console) unifyConsole(config.console);
}

function unifyStorage(device: StorageDevice, where: string): void {
  device.id = device.deviceId = same(where, 'id', device.id, 'device_id', device.deviceId);
  device.path = device.pathOnHost = same(where, 'path', device.path, 'path_on_host', device.pathOnHost);
  // What is only absent reads as false here, so that any of the three names can say it.
  device.readOnly = device.isReadOnly = device.readOnly || device.isReadOnly || device.readonlyFlag;
  device.readonlyFlag = false;
}

function unifyNic(nic: NetworkInterface, where: string): void {
  nic.id = nic.interfaceId = same(where, 'id', nic.id, 'interface_id', nic.interfaceId);
  nic.interfaceType = nic.type = same(where, 'interface_type', nic.interfaceType, 'type', nic.type);
  nic.macAddress = nic.guestMac = same(where, 'mac_address', nic.macAddress, 'guest_mac', nic.guestMac);
  const { rateLimit } = nic;
  if (rateLimit) {
    if (nic.rxRateLimit || nic.txRateLimit) throw differ(where, 'rate_limit', 'rx_rate_limit or tx_rate_limit');
    const limit = {
      bandwidth: rateLimit.bandwidthBytesPerSecond,
      burst: rateLimit.burstBytes,
      refillTime: rateLimit.refillTimeMillis,
    };
    nic.rxRateLimit = create(RateLimitSchema, limit);
    nic.txRateLimit = create(RateLimitSchema, limit);
  } else if (nic.rxRateLimit && nic.txRateLimit && isSameLimit(nic.rxRateLimit, nic.txRateLimit)) {
    nic.rateLimit = create(DirectionlessRateLimitSchema, {
      bandwidthBytesPerSecond: nic.rxRateLimit.bandwidth,
      burstBytes: nic.rxRateLimit.burst,
      refillTimeMillis: nic.rxRateLimit.refillTime,
    });
  }
}

function unifyConsole(console: ConsoleConfig): void {
  console.consoleType = console.type = same('console', 'console_type', console.consoleType, 'type', console.type);
  console.output = console.outputFile = same('console', 'output', console.output, 'output_file', console.outputFile);
}

function same(where: string, name: string, value: string, otherName: string, other: string): string {
  if (value !== '' && other !== '' && value !== other) throw differ(where, name, otherName);
  return value || other;
}

function differ(where: string, name: string, other: string): BerthError {
  return new BerthError('invalid_argument', { reason: `${where}: ${name} and ${other} must not both be given` });
}

function isSameLimit(a: RateLimit, b: RateLimit): boolean {
  return a.bandwidth === b.bandwidth && a.burst === b.burst && a.refillTime === b.refillTime;
}
