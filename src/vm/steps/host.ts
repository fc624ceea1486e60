import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { BerthError } from '../../common/errors.ts';
import type { EngineDisk, EngineVmSpec } from '../../engine/engine.ts';
import type { GuestIdentity } from '../../guest/guest.ts';
import type { Network, VmNetwork } from '../../net/network.ts';
import { forgetMemory } from '../../snapshot/memory-files.ts';
import type { OperationContext, VmDependencies } from '../context.ts';
import { kernelArgs, machineFor } from '../kernel-args.ts';
import { dataDiskName, rootDiskName, type VmLayout } from '../layout.ts';
import { readLogTail } from '../log-tail.ts';
import { readManifest } from '../manifest.ts';
import type { DataDisk, Vm, VmNic } from '../model.ts';
import type { Step } from '../run-steps.ts';

/**
 * Hundredths of a CPU that a VM's process has for its devices, beside what its vCPUs have: out of theirs, a guest that
 * computes and writes at the same time would stand still for the rest of each period.
 */
const devicesCpuPercent = 50;

/** What the network is asked for: one entry for each of the VM's interfaces, in their order. */
export function networksOf(vm: Vm): readonly VmNetwork[] {
  const addresses = vm.nics.map(addressesInUse);
  return vm.nics.map(({ addresses: lease, families, rxLimit, txLimit }, index) => ({
    vmId: vm.id,
    tap: lease.tap,
    mac: lease.mac,
    ipv4: lease.ipv4,
    ipv6: lease.ipv6,
    uid: vm.uid,
    egress: vm.egress,
    families,
    otherAddresses: addresses.toSpliced(index, 1).flat(),
    rxLimit,
    txLimit,
  }));
}

function addressesInUse({ families, addresses: { ipv4, ipv6 } }: VmNic): readonly string[] {
  return [...(families === 'ipv6' ? [] : [ipv4]), ...(families === 'ipv4' || ipv6 === null ? [] : [ipv6])];
}

/** Takes all of a VM's interfaces away: each is tried, whatever became of the others. */
export async function detachNetworks(network: Network, vm: Vm): Promise<void> {
  const failures: unknown[] = [];
  for (const nic of networksOf(vm)) await network.detach(nic).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}

/** Rules and taps on the host. */
export const networkStep: Step<OperationContext> = {
  name: 'network',
  async run({ deps, vm }) {
    for (const nic of networksOf(vm)) await deps.network.attach(nic);
  },
  undo: ({ deps, vm }) => detachNetworks(deps.network, vm),
};

export const detachStep: Step<OperationContext> = {
  name: 'network',
  run: ({ deps, vm }) => detachNetworks(deps.network, vm),
  async check({ deps, vm }) {
    for (const nic of networksOf(vm)) if (await deps.network.attached(nic)) return false;
    return true;
  },
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

/** Ends the process, whatever state it is in, and with it the use of the memory that it was cloned from. */
export const endStep: Step<OperationContext> = {
  name: 'end',
  async run({ deps, live, vm }) {
    live.release(vm.id);
    await deps.engine.destroy(vm.id, deps.layout.run(vm.id));
    await forgetMemory(deps.layout.dir(vm.id));
  },
};

/** Waits for the guest's first answer and makes it the machine it is to be. */
export const guestStep: Step<OperationContext> = {
  name: 'guest',
  needed: ({ vm }) => vm.guestChannel === 'required',
  async run({ deps, live, vm }) {
    const running = live.get(vm.id);
    if (!running) throw new BerthError('boot_failed', { reason: 'its process ended' });
    try {
      await running.guest.ready(deps.settings.bootTimeoutMs, running.ended);
      await running.guest.configure(firstIdentityOf(deps, vm));
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

/** What a VM's guest is told of itself. The way out is through the first interface. */
export function identityOf(deps: VmDependencies, vm: Vm): GuestIdentity {
  const { plan } = deps.network;
  const [first, ...further] = vm.nics.map(({ addresses: { mac, ipv4, ipv6 }, families, nameservers }, index) => {
    const [has4, has6] = [families !== 'ipv6', families !== 'ipv4' && ipv6 !== null && plan.prefix6 !== null];
    return {
      mac,
      ipv4: has4 ? `${ipv4}/${plan.prefix4}` : null,
      gateway4: has4 && index === 0 ? plan.gateway4 : null,
      ipv6: has6 ? `${ipv6}/${plan.prefix6}` : null,
      gateway6: has6 && index === 0 ? plan.gateway6 : null,
      nameservers: nameservers ?? plan.nameservers,
    };
  });
  return {
    hostname: hostnameOf(vm.name),
    unixTimeMs: Date.now(),
    entropy: randomBytes(64),
    network: first ?? null,
    furtherNetworks: further,
  };
}

/** What a guest that has booted is told: at the VM's first start whatever the image has of a machine's own is made anew. */
function firstIdentityOf(deps: VmDependencies, vm: Vm): GuestIdentity {
  const identity = { ...identityOf(deps, vm), renew: vm.startedAt === null };
  if (!vm.hidden || identity.network === null) return identity;
  // It becomes a template: what has no addresses has none to be taken away from each of its clones.
  const network = { ...identity.network, ipv4: null, gateway4: null, ipv6: null, gateway6: null };
  return { ...identity, network };
}

/** A VM's name as the name of a machine: letters, digits, dots and dashes, at most 63 of them. */
function hostnameOf(name: string): string {
  const host = name.replaceAll(/[^A-Za-z0-9.-]+/g, '-').slice(0, 63);
  return /^[.-]*$/.test(host) ? 'vm' : host;
}
