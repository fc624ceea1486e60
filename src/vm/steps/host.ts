import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { BerthError } from '../../common/errors.ts';
import type { EngineVmSpec } from '../../engine/engine.ts';
import type { GuestIdentity } from '../../guest/guest.ts';
import type { VmNetwork } from '../../net/network.ts';
import { forgetMemory } from '../../snapshot/memory-files.ts';
import type { OperationContext, VmDependencies } from '../context.ts';
import { readLogTail } from '../log-tail.ts';
import { readManifest } from '../manifest.ts';
import type { Vm } from '../model.ts';
import type { Step } from '../run-steps.ts';

export function networkOf(vm: Vm): VmNetwork {
  return {
    vmId: vm.id,
    tap: vm.addresses.tap,
    mac: vm.addresses.mac,
    ipv4: vm.addresses.ipv4,
    ipv6: vm.addresses.ipv6,
    uid: vm.uid,
    egress: vm.egress,
  };
}

/** Rules and tap on the host. */
export const networkStep: Step<OperationContext> = {
  name: 'network',
  run: ({ deps, vm }) => deps.network.attach(networkOf(vm)),
  undo: ({ deps, vm }) => deps.network.detach(networkOf(vm)),
};

export const detachStep: Step<OperationContext> = {
  name: 'network',
  run: ({ deps, vm }) => deps.network.detach(networkOf(vm)),
  check: async ({ deps, vm }) => !(await deps.network.attached(networkOf(vm))),
};

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

/** Ends the process, whatever state it is in. */
export const endStep: Step<OperationContext> = {
  name: 'end',
  async run({ deps, live, vm }) {
    live.release(vm.id);
    await deps.engine.destroy(vm.id, deps.layout.run(vm.id));
  },
};

/** Waits for the guest's first answer and makes it the machine it is to be. */
export const guestStep: Step<OperationContext> = {
  name: 'guest',
  async run({ deps, live, vm }) {
    const running = live.get(vm.id);
    if (!running) throw new BerthError('boot_failed', { reason: 'its process ended' });
    try {
      await running.guest.ready(deps.settings.bootTimeoutMs, running.ended);
      await running.guest.configure(identityOf(deps, vm));
    } catch (error) {
      // The console goes with the VM's directory, so its last lines are kept for the operator.
      const console = await readLogTail(deps.engine.consoleLog(deps.layout.run(vm.id)), 30);
      deps.log.warn({ err: error, vm: vm.id, console: console.lines }, 'a guest did not come up');
      const reason = running.ended.aborted
        ? 'its process ended before the guest answered'
        : 'the guest did not answer in time';
      throw new BerthError('boot_failed', { reason }, error);
    }
  },
};

/** Asks the guest to power off, then presses the power button. What is left after that is ended by the next step. */
export const shutdownStep: Step<OperationContext> = {
  name: 'shutdown',
  needed: ({ detail }) => detail.force !== 1,
  async run({ deps, live, vm, detail }) {
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
    const guest = live.get(vm.id)?.guest;
    if (guest) {
      const accepted = await withDeadline(guest.powerOff(), graceMs);
      if (accepted && (await deps.engine.waitForExit(vm.id, dir, graceMs))) return;
    }
    try {
      await deps.engine.powerButton(vm.id, dir);
    } catch (error) {
      deps.log.warn({ err: error, vm: vm.id }, 'the power button could not be pressed');
      return;
    }
    await deps.engine.waitForExit(vm.id, dir, graceMs);
  },
  async check({ deps, vm }) {
    return (await deps.engine.observe(vm.id, deps.layout.run(vm.id))).state === 'absent';
  },
};

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
    initrd: layout.initrd(vm.id),
    // Every character on an emulated serial line costs time; warnings still come through.
    kernelArgs: ['quiet', '8250.nr_uarts=1', 'cryptomgr.notests'],
    disks: [{ name: 'root', path: join(layout.dir(vm.id), manifest.layer), format: 'qcow2', readOnly: false }],
    nics: [network.nic(networkOf(vm))],
    machine: 'auto',
    uid: vm.uid,
    limits: {
      cpuPercent: settings.cpuPercentPerCpu === null ? null : settings.cpuPercentPerCpu * vm.cpus,
      memoryOverheadMiB: settings.memoryOverheadMiB,
    },
  };
}

/** What a VM's guest is told of itself. */
export function identityOf(deps: VmDependencies, vm: Vm): GuestIdentity {
  const { plan } = deps.network;
  const { ipv4, ipv6, mac } = vm.addresses;
  return {
    hostname: vm.name,
    unixTimeMs: Date.now(),
    entropy: randomBytes(64),
    network: {
      mac,
      ipv4: `${ipv4}/${plan.prefix4}`,
      gateway4: plan.gateway4,
      ipv6: ipv6 === null || plan.prefix6 === null ? null : `${ipv6}/${plan.prefix6}`,
      gateway6: plan.gateway6,
      nameservers: plan.nameservers,
    },
  };
}
