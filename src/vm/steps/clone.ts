/** The steps by which a VM goes on from captured memory instead of booting. */

import { BerthError } from '../../common/errors.ts';
import type { EngineShape } from '../../engine/engine.ts';
import type { GuestIdentified, GuestIdentity } from '../../guest/guest.ts';
import type { OperationContext, VmDependencies } from '../context.ts';
import { readLogTail } from '../log-tail.ts';
import type { Renewal, Vm } from '../model.ts';
import type { Step } from '../run-steps.ts';
import { identityOf } from './guest.ts';
import { engineSpec, launchStep } from './process.ts';

/** Milliseconds that a clone's first answer may take; it has nothing to boot. */
const answerMs = 30_000;

const longestDetail = 200;

/** What a VM's captured memory is tied to. */
export function shapeOf(deps: VmDependencies, vm: Pick<Vm, 'cpus' | 'memoryMiB'>): EngineShape {
  const nic = deps.network.plan.kind === 'bridge' ? 'tap' : 'user';
  return {
    ...{ cpus: vm.cpus, memoryMiB: vm.memoryMiB, machine: 'auto' },
    disks: ['root'],
    nics: [{ name: 'net0', kind: nic }],
  };
}

/** The VM's process, with the memory mapped, waiting. */
export const spawnStep: Step<OperationContext> = {
  name: 'spawn',
  async run({ deps, live, vm, detail }) {
    const [spec, fingerprint, counterKhz] = await Promise.all([
      engineSpec(deps, vm),
      deps.engine.fingerprint(shapeOf(deps, vm)),
      deps.engine.counterKhz(),
    ]);
    const directory = deps.layout.snapshot(String(detail.snapshotId));
    await deps.memories.using(directory, { fingerprint, counterKhz }, (memory) => deps.engine.prepare(spec, memory));
    await live.adopt(vm.id);
  },
  undo: launchStep.undo!,
};

export const loadStep: Step<OperationContext> = {
  name: 'load',
  run: ({ deps, vm }) => deps.engine.restore(vm.id, deps.layout.run(vm.id)),
};

export const continueStep: Step<OperationContext> = {
  name: 'continue',
  run: ({ deps, vm }) => deps.engine.resume(vm.id, deps.layout.run(vm.id)),
};

/** The disk is as large as the one that was captured until here. */
export const growStep: Step<OperationContext> = {
  name: 'grow',
  needed: isLarger,
  run: ({ deps, vm }) => deps.engine.growDisk(vm.id, deps.layout.run(vm.id), 'root', vm.diskMiB * 1024 * 1024),
};

/** Makes the copy a machine of its own, before anybody may use it. */
export const hygieneStep: Step<OperationContext> = { name: 'hygiene', run: (context) => renew(context, {}) };

/** Likewise for a copy that was made a machine of its own before: its addresses are its own since then. */
export const secondHygieneStep: Step<OperationContext> = {
  name: 'hygiene',
  run: (context) => renew(context, { network: null, furtherNetworks: [], keepNetwork: true }),
};

async function renew(context: OperationContext, change: Partial<GuestIdentity>): Promise<void> {
  const { deps, live, vm, outcome } = context;
  const running = live.get(vm.id);
  if (!running) throw new BerthError('boot_failed', { reason: 'its process ended' });
  try {
    const diskBytes = isLarger(context) ? vm.diskMiB * 1024 * 1024 : null;
    const identity = { ...identityOf(deps, vm), ...change, renew: true, diskBytes };
    const identified = await running.guest.become(identity, answerMs, running.ended);
    outcome.renewal = renewalOf(identified);
    const guestSteps = identified.steps.map(({ name, micros }) => ({ name, micros }));
    deps.log.info({ vm: vm.id, guestSteps }, 'a clone has its own identity');
  } catch (error) {
    const console = await readLogTail(deps.engine.consoleLog(deps.layout.run(vm.id)), 30);
    deps.log.warn({ err: error, vm: vm.id, console: console.lines }, 'a clone did not answer');
    const reason = running.ended.aborted ? 'its process ended' : 'the guest did not take its new identity';
    throw new BerthError('boot_failed', { reason }, error);
  }
}

/** Stops the VM's processors. */
export const pauseStep: Step<OperationContext> = {
  name: 'pause',
  run: ({ deps, vm }) => deps.engine.pause(vm.id, deps.layout.run(vm.id)),
};

function isLarger({ vm, detail }: OperationContext): boolean {
  return typeof detail.belowDiskMiB === 'number' && vm.diskMiB > detail.belowDiskMiB;
}

function renewalOf({ steps, clockSkewMs }: GuestIdentified): readonly Renewal[] {
  return steps.map(({ name, outcome, detail }) => ({
    name,
    outcome,
    detail: (name === 'clock' ? `was ${Math.round(-clockSkewMs)} ms behind` : detail).slice(0, longestDetail),
  }));
}
