import { randomUUID } from 'node:crypto';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { EngineVmSpec } from '../engine.ts';
import { beat, type EngineHarness, type GuestBehaviour, guestMarker } from '../engine-suite.ts';
import { QemuEngine } from './qemu-engine.ts';
import { tinyInitramfs } from './tiny-initramfs.ts';
import {
  dataAddress,
  forever,
  type Instruction,
  powerOff,
  print,
  program,
  restart,
  store32,
  syscall,
} from './tiny-program.ts';

/** The kernel that tests boot: an uncompressed ELF with a PVH note. */
const testKernel = process.env.BERTH_TEST_KERNEL ?? '';

/** An unprivileged uid that owns nothing on the host. */
export const testUid = process.getuid?.() === 0 ? 54_321 : null;

export const testLogBytes = { console: 8 * 1024, engine: 8 * 1024 };

const behaviours: Record<GuestBehaviour, readonly Instruction[]> = {
  wait: [forever(syscall('pause'))],
  'power off': [powerOff()],
  reboot: [restart()],
  beat: [
    // A struct timespec of 200 ms, in memory that is zero.
    store32(dataAddress + 8, 200_000_000),
    forever(print(`${beat}\n`), syscall('nanosleep', dataAddress, 0)),
  ],
  'write forever': [forever(print(`${'x'.repeat(99)}\n`))],
};

export interface QemuHarness extends EngineHarness {
  readonly root: string;
  open(): QemuEngine;
}

/** VMs with a kernel and an initramfs of a few bytes, in a new directory. */
export async function qemuHarness(): Promise<QemuHarness> {
  const root = await mkdtemp(join(tmpdir(), 'berth-qemu-'));
  const vmsRoot = join(root, 'vms');
  await mkdir(vmsRoot);
  await chmod(root, 0o711);
  await chmod(vmsRoot, 0o711);
  const specs: EngineVmSpec[] = [];
  const open = () =>
    new QemuEngine({
      accel: 'tcg',
      stateDir: join(root, 'engine'),
      log: pino({ level: process.env.BERTH_TEST_LOG ?? 'silent' }),
      kernelForProbe: async () => testKernel,
      probeUid: testUid,
      logBytes: testLogBytes,
    });
  return {
    root,
    vmsRoot,
    open,
    async cleanUp() {
      const engine = open();
      for (const { id, dir } of specs) await engine.destroy(id, dir);
      await engine.close();
      await rm(root, { recursive: true, force: true });
    },
    async spec(behaviour): Promise<EngineVmSpec> {
      const id = randomUUID();
      const above = join(vmsRoot, id);
      // As private to the daemon as it gets: a VM's process needs no right to it.
      const dir = join(above, 'run');
      await mkdir(above);
      await chmod(above, 0o711);
      await mkdir(dir, { mode: 0o700 });
      const initrd = join(above, 'initrd');
      await writeFile(initrd, tinyInitramfs(program(print(`${guestMarker}\n`), ...behaviours[behaviour])), {
        mode: 0o444,
      });
      const spec: EngineVmSpec = {
        ...{ id, dir, cpus: 1, memoryMiB: 192, kernel: testKernel, initrd, kernelArgs: ['quiet'], disks: [], nics: [] },
        machine: 'auto',
        uid: testUid,
        limits: { cpuPercent: null, memoryOverheadMiB: 256 },
      };
      specs.push(spec);
      return spec;
    },
  };
}
