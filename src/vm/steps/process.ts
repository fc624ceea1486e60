/** The steps of a VM's process: its start and its end. */

import { join } from 'node:path';
import { BerthError } from '../../common/errors.ts';
import type { EngineDisk, EngineVmSpec } from '../../engine/engine.ts';
import { forgetMemory } from '../../snapshot/memory-files.ts';
import type { OperationContext, VmDependencies } from '../context.ts';
import { kernelArgs, machineFor } from '../kernel-args.ts';
import { dataDiskName, rootDiskName, type VmLayout } from '../layout.ts';
import { readManifest } from '../manifest.ts';
import type { DataDisk, Vm } from '../model.ts';
import type { Step } from '../run-steps.ts';
import { networksOf } from './network.ts';

/**
 * Hundredths of a CPU that a VM's process has for its devices, beside what its vCPUs have: out of theirs, a guest that
 * computes and writes at the same time would stand still for the rest of each period.
 */
const devicesCpuPercent = 50;

/** The VM's process. */
export const launchStep: Step<OperationContext> = {
  name: 'launch',
  async run({ deps, live, vm }) {
    const spec = await engineSpec(deps, vm);
    // It boots: what it was once cloned from no longer lies below its memory.
    await forgetMemory(deps.layout.dir(vm.id));
    try {
      await deps.engine.start(spec);
    } catch (error) {
      throw error instanceof BerthError
        ? error
        : new BerthError('boot_failed', { reason: 'the engine refused it' }, error);
    }
    await live.adopt(vm.id);
  },
  async undo({ deps, live, vm }) {
    live.release(vm.id);
    await deps.engine.destroy(vm.id, deps.layout.run(vm.id));
  },
};

/** Ends the process, whatever state it is in, and with it the use of the memory that it was cloned from. */
export const endStep: Step<OperationContext> = {
  name: 'end',
  async run({ deps, live, vm }) {
    live.release(vm.id);
    await deps.engine.destroy(vm.id, deps.layout.run(vm.id));
    await forgetMemory(deps.layout.dir(vm.id));
  },
};

/** Asks the guest to power off, then presses the power button. What is left after that is ended by the next step. */
export const shutdownStep: Step<OperationContext> = {
  name: 'shutdown',
  needed: ({ detail }) => detail.force !== 1,
  async run({ deps, live, vm, detail, hurry }) {
    if (hurry.aborted) return;
    const dir = deps.layout.run(vm.id);
    const graceMs = typeof detail.graceMs === 'number' ? detail.graceMs : deps.settings.stopGraceMs;
    try {
      const { state } = await deps.engine.observe(vm.id, dir);
      // A guest that is held for lack of disk space cannot shut down: its writes wait for the space.
      if (state === 'absent' || state === 'stalled') return;
      if (state === 'paused') await deps.engine.resume(vm.id, dir);
    } catch (error) {
      // A process that does not answer cannot be asked for anything: the next step ends it.
      deps.log.warn({ err: error, vm: vm.id }, 'a VM process does not answer');
      return;
    }
    const guest = vm.guestChannel === 'required' ? live.get(vm.id)?.guest : undefined;
    const isGone = () => unlessHurried(deps.engine.waitForExit(vm.id, dir, graceMs), hurry);
    if (guest) {
      const accepted = await unlessHurried(withDeadline(guest.powerOff(), graceMs), hurry);
      if (accepted && (await isGone())) return;
      if (hurry.aborted) return;
    }
    try {
      await deps.engine.powerButton(vm.id, dir);
    } catch (error) {
      deps.log.warn({ err: error, vm: vm.id }, 'the power button could not be pressed');
      return;
    }
    await isGone();
  },
  async check({ deps, vm }) {
    return (await deps.engine.observe(vm.id, deps.layout.run(vm.id))).state === 'absent';
  },
};

/** What `task` comes to; false when somebody hurries before that. */
async function unlessHurried(task: Promise<boolean>, hurry: AbortSignal): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<false>();
  const onHurry = () => resolve(false);
  hurry.addEventListener('abort', onHurry);
  if (hurry.aborted) onHurry();
  try {
    return await Promise.race([task, promise]);
  } finally {
    hurry.removeEventListener('abort', onHurry);
  }
}

/** True when `task` succeeded in time. Its failure is the guest's affair: there are stronger means. */
async function withDeadline(task: Promise<void>, ms: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(false), ms);
  task.then(
    () => resolve(true),
    () => resolve(false),
  );
  const done = await promise;
  clearTimeout(timer);
  return done;
}

/** What the engine is told of a VM. */
export async function engineSpec(deps: VmDependencies, vm: Vm): Promise<EngineVmSpec> {
  const { layout, network, settings } = deps;
  const manifest = await readManifest(layout.manifest(vm.id));
  if (!manifest) throw new BerthError('boot_failed', { reason: 'its files are not whole' });
  return {
    id: vm.id,
    dir: layout.run(vm.id),
    cpus: vm.cpus,
    memoryMiB: vm.memoryMiB,
    kernel: layout.kernel(vm.id),
    initrd: vm.boot !== null && vm.boot.initrd === null ? null : layout.initrd(vm.id),
    kernelArgs: kernelArgs(vm, network.plan),
    disks: [
      {
        name: rootDiskName,
        path: join(layout.dir(vm.id), manifest.layer),
        format: 'qcow2',
        readOnly: vm.rootDisk.readOnly,
        serial: vm.rootDisk.name,
      },
      ...vm.dataDisks.map((disk, index) => dataDisk(layout, vm, disk, index)),
    ],
    nics: networksOf(vm).map((nic, index) => ({ ...network.nic(nic), name: `net${index}` })),
    machine: await machineFor(vm, layout.kernel(vm.id)),
    uid: vm.uid,
    limits: {
      cpuPercent: settings.cpuPercentPerCpu === null ? null : settings.cpuPercentPerCpu * vm.cpus + devicesCpuPercent,
      memoryOverheadMiB: settings.memoryOverheadMiB,
    },
  };
}

function dataDisk(layout: VmLayout, vm: Vm, { name, readOnly, asset }: DataDisk, index: number): EngineDisk {
  return {
    name: dataDiskName(index),
    ...(readOnly
      ? { path: layout.dataBase(vm.id, index), format: asset.format }
      : { path: layout.dataLayer(vm.id, index), format: 'qcow2' }),
    readOnly,
    serial: name,
  };
}
