import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { forEachLimited, type Serial } from '../common/concurrency.ts';
import { sweepTemporaries } from '../common/files.ts';
import type { Operation } from '../store/vm-store.ts';
import { tellTime } from './clock.ts';
import { dropUnusedLayers } from './disk-chain.ts';
import { growDisk } from './grow-disk.ts';
import type { Vm } from './model.ts';
import { observedRecord } from './observed.ts';
import { notStarted, notUndone, type Operations, stoppedNow } from './operations.ts';
import type { Parking } from './parking.ts';
import { bootPlan, removePlan, snapshotPlan, startPlanOf, stopPlan } from './plans.ts';
import { finishSteps, stepsOf, undoSteps } from './run-steps.ts';
import { detachNetworks, networksOf } from './steps/network.ts';

/** VMs settled at a time: most of it is waiting, for disks and for processes that do not answer. */
const concurrency = 8;

/**
 * Makes the host agree with the store after a daemon is gone, however it went. What was being built is taken back, what
 * was being taken down is taken down; then each VM's state is what is observed, not what was written. VMs are settled side
 * by side, each in its turn of `serial`: one that ends meanwhile waits for that.
 */
export async function recover(
  operations: Operations,
  serial: Serial<string>,
  parking: Parking,
  snapshotIds: ReadonlySet<string>,
): Promise<void> {
  const { deps, records } = operations;
  const vms = await deps.store.list();
  const known = new Set(vms.map((vm) => vm.id));
  for (const vm of vms) records.put(vm);

  const live = await deps.engine.listLive(deps.layout.vmsRoot);
  for (const id of live.keys()) {
    if (known.has(id)) continue;
    deps.log.warn({ vm: id }, 'ending a VM process that belongs to no VM');
    await attempt(operations, id, () => deps.engine.destroy(id, deps.layout.run(id)));
  }
  // Rules of running VMs are put back in one transaction before anything else: they hold whatever happens below.
  await deps.network.reconcile(vms.filter((vm) => live.has(vm.id)).flatMap(networksOf));

  const cutOff = new Map((await deps.store.operations()).map((operation) => [operation.vmId, operation]));
  const settleVm = async (id: string) => {
    const operation = cutOff.get(id);
    if (operation) await attempt(operations, id, () => settle(operations, records.get(id), operation));
    const vm = records.find(id);
    // What was kept ready is made anew, and what was not complete is taken back.
    if (vm?.hidden) await attempt(operations, id, () => operations.erase(id));
    // Nothing to see of a VM that has no process and should have none.
    else if (vm && (shouldRun(vm) || live.has(id)))
      await attempt(operations, id, () => observe(operations, parking, vm));
    if (operation?.kind === 'snapshot') await tellTimeIfAwake(operations, id);
  };
  await forEachLimited(known, concurrency, (id) => serial.run(id, () => settleVm(id)));
  await sweepDirectory(deps.layout.vmsRoot, (name) => records.find(name) !== undefined);
  await sweepDirectory(deps.layout.snapshotsRoot, (name) => snapshotIds.has(name));
}

/** One VM that is broken must not keep the daemon from serving the others; it can still be removed. */
async function attempt({ deps }: Operations, id: string, task: () => Promise<unknown>): Promise<void> {
  try {
    await task();
  } catch (error) {
    deps.log.error({ err: error, vm: id }, 'a VM could not be brought into order');
  }
}

async function settle(operations: Operations, vm: Vm, operation: Operation): Promise<void> {
  const { deps } = operations;
  const context = operations.context(vm, operation);
  deps.log.warn({ vm: vm.id, operation: operation.kind }, 'settling an operation that was cut off');
  if (isWhole(operation) && operation.detail.wholeSince !== deps.hostBoot) {
    await finishSteps(stopPlan, { ...context, detail: { ...context.detail, force: 1 } });
    await operations.finish(vm, stoppedNow('the host went down'));
    return;
  }
  switch (operation.kind) {
    case 'create':
      if (await undoSteps('create', stepsOf(bootPlan), context, deps.log)) await operations.forget(vm.id);
      else await operations.save({ ...vm, ...notUndone });
      return;
    case 'start':
      if (await undoSteps('start', stepsOf(startPlanOf(operation)), context, deps.log))
        await operations.finish(vm, notStarted(operation, 'the daemon ended while the VM started'));
      else await operations.save({ ...vm, ...notUndone });
      return;
    case 'stop':
      // However long its client would have waited, that client is gone, and others wait for the daemon.
      await finishSteps(stopPlan, { ...context, detail: { ...context.detail, graceMs: null } });
      await operations.finish(vm, stoppedNow(null));
      return;
    case 'remove':
      await finishSteps(removePlan, context);
      await operations.forget(vm.id);
      return;
    case 'resize':
      await growDisk(vm, deps.layout);
      await operations.finish(vm, {});
      return;
    case 'merge':
      // What its process may still do of it ends without an effect; see `Engine.mergeLayers`.
      await dropUnusedLayers(deps.layout, vm.id);
      await deps.store.finish(vm);
      return;
    case 'snapshot':
      await undoSteps('snapshot', snapshotPlan, context, deps.log);
      await sweepTemporaries(deps.layout.dir(vm.id));
      await resumeCaptured(operations, vm);
      await operations.finish(vm, {});
      return;
  }
}

/** Whether a VM that was coming up had all its files: its client may have been told that it runs, and have used it. */
function isWhole({ kind, detail }: Operation): boolean {
  return (kind === 'create' || kind === 'start') && typeof detail.wholeSince === 'string';
}

/** A VM stands still while it is captured: one that ran goes on. */
async function resumeCaptured({ deps }: Operations, vm: Vm): Promise<void> {
  const dir = deps.layout.run(vm.id);
  if (vm.state !== 'running' || vm.parked) return;
  if ((await deps.engine.observe(vm.id, dir)).state === 'paused') await deps.engine.resume(vm.id, dir);
}

/** A VM that was being captured stood still since the earlier daemon ended. */
async function tellTimeIfAwake({ deps, live, records }: Operations, id: string): Promise<void> {
  const vm = records.find(id);
  if (vm?.state === 'running' && !vm.parked) await tellTime(vm, live.get(id)?.guest, deps.log);
}

/** Adopts a VM that runs, and settles one whose process ended while nobody watched. */
async function observe(operations: Operations, parking: Parking, vm: Vm): Promise<void> {
  const { deps, live } = operations;
  const dir = deps.layout.run(vm.id);
  const { state } = await deps.engine.observe(vm.id, dir);
  if (state === 'absent') {
    if (!shouldRun(vm)) return;
    await deps.engine.destroy(vm.id, dir);
    await detachNetworks(deps.network, vm);
    await operations.finish(vm, stoppedNow('its process ended while the daemon was away'));
    return;
  }
  if (!shouldRun(vm)) {
    await deps.engine.destroy(vm.id, dir);
    await detachNetworks(deps.network, vm);
    return;
  }
  await live.adopt(vm.id);
  live.setStalled(vm.id, state === 'stalled');
  const seen = observedRecord(vm, state);
  if (vm.state !== seen.state || vm.reason !== seen.reason) await operations.observed({ ...vm, ...seen });
  await parking.restore(vm, state);
}

function shouldRun({ state }: Vm): boolean {
  return state === 'running' || state === 'paused';
}

async function sweepDirectory(root: string, isKnown: (name: string) => boolean): Promise<void> {
  for (const name of await readdir(root))
    if (!isKnown(name)) await rm(join(root, name), { recursive: true, force: true });
}
