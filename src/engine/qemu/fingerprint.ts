import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { EngineShape, EngineVmSpec } from '../engine.ts';
import { qemuArgs } from './qemu-args.ts';

export interface FingerprintHost {
  readonly acceleration: 'kvm' | 'tcg';
  /** QEMU's version with the distribution's build. */
  readonly version: string;
  readonly translationMiB: number;
}

/**
 * What captured memory and device state are tied to: QEMU's build, the machine with its devices, and with KVM the host's
 * processor. It is taken from the very arguments QEMU gets, with names, paths and addresses that differ between VMs of one
 * shape put out of the way.
 */
export function fingerprint(shape: EngineShape, host: FingerprintHost): string {
  const spec: EngineVmSpec = {
    ...{ id: 'vm', dir: '/', kernel: '/kernel', initrd: null, kernelArgs: [], uid: null },
    ...{ cpus: shape.cpus, memoryMiB: shape.memoryMiB, machine: shape.machine },
    disks: shape.disks.map((name) => ({ name, path: '/disk', format: 'qcow2', readOnly: false })),
    nics: shape.nics.map(({ name, kind }) => ({
      name,
      backend: kind === 'tap' ? { kind, tap: 'tap' } : { kind, restrict: true },
      mac: '02:00:00:00:00:00',
    })),
    limits: { cpuPercent: null, memoryOverheadMiB: null },
  };
  const args = qemuArgs(spec, { ...host, tscKhz: null });
  const processor = host.acceleration === 'kvm' ? processorModel() : 'emulated';
  return createHash('sha256')
    .update(JSON.stringify([host.version, processor, args]))
    .digest('hex');
}

/** What `-cpu host` shows to guests. */
function processorModel(): string {
  const wanted = /^(vendor_id|cpu family|model|stepping|microcode|flags)\s*:/;
  const [first = ''] = readFileSync('/proc/cpuinfo', 'utf8').split('\n\n');
  return first
    .split('\n')
    .filter((line) => wanted.test(line))
    .join('\n');
}
