import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { TdxEvent } from './events.ts';
import { sha256, sha384 } from './hash.ts';
import type { Rtmrs } from './rtmr.ts';

/** Event types of the TCG PC client platform firmware profile that boot events have. */
const EV_PLATFORM_CONFIG_FLAGS = 0x0a;
const EV_IPL = 0x0d;

/** What a VM boots. Digests are SHA-384 of whole files; the command line is its text. */
export interface BootComponents {
  /** What runs first: the firmware's file, or the kernel's where QEMU starts that itself. */
  readonly firmware: Buffer;
  readonly kernel: Buffer;
  readonly initramfs: Buffer;
  readonly commandLine: string;
  /** The root file system, before the first write to it. */
  readonly rootfs: Buffer;
  /** Text that describes the virtual hardware, with sorted keys: processors, memory, devices. */
  readonly hardware: string;
}

export interface BootMeasurements {
  readonly mrtd: Buffer;
  /** Of the registers 0 to 2, in order. */
  readonly bootEvents: readonly TdxEvent[];
}

/**
 * The measurements of a boot, by Berth's rules. Hardware measures the firmware's memory pages and what the firmware logs;
 * a VM without it is measured by whoever starts it, from the files themselves:
 *
 * | register | holds |
 * |---|---|
 * | MRTD | SHA-384("berth-mrtd:" ‖ digest of the firmware) |
 * | RTMR0 | `hardware`: SHA-384 of its text |
 * | RTMR1 | `kernel`, `initramfs`: SHA-384 of the files |
 * | RTMR2 | `command-line`: SHA-384 of its text; `rootfs`: SHA-384 of the file |
 */
export function measureBoot(boot: BootComponents): BootMeasurements {
  const event = (imr: number, eventType: number, name: string, digest: Buffer, payload = ''): TdxEvent => ({
    imr,
    eventType,
    digest,
    event: name,
    payload: Buffer.from(payload),
  });
  return {
    mrtd: sha384('berth-mrtd:', boot.firmware),
    bootEvents: [
      event(0, EV_PLATFORM_CONFIG_FLAGS, 'hardware', sha384(boot.hardware), boot.hardware),
      event(1, EV_IPL, 'kernel', boot.kernel),
      event(1, EV_IPL, 'initramfs', boot.initramfs),
      event(2, EV_IPL, 'command-line', sha384(boot.commandLine), boot.commandLine),
      event(2, EV_IPL, 'rootfs', boot.rootfs),
    ],
  };
}

/**
 * The hash that names an operating system image which brings none of its own: SHA-256(MRTD ‖ RTMR1 ‖ RTMR2), so that it
 * can be computed from a quote. The hardware is not part of it.
 */
export function osImageHash(mrtd: Buffer, rtmrs: Rtmrs): Buffer {
  return sha256(mrtd, rtmrs[1], rtmrs[2]);
}

/** SHA-384 of a file. */
export async function measureFile(path: string): Promise<Buffer> {
  const hash = createHash('sha384');
  await pipeline(createReadStream(path), hash);
  return hash.digest();
}
