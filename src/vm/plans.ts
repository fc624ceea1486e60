/** Which steps make up each operation, in order. */

import type { Operation } from '../store/vm-store.ts';
import type { OperationContext } from './context.ts';
import type { Parallel, Step } from './run-steps.ts';
import {
  continueStep,
  growStep,
  hygieneStep,
  loadStep,
  pauseStep,
  secondHygieneStep,
  spawnStep,
} from './steps/clone.ts';
import { directoryStep, diskStep, initrdStep, journalStep, removeFilesStep, syncStep } from './steps/files.ts';
import { guestStep } from './steps/guest.ts';
import { dropStep, streamStep } from './steps/merge.ts';
import { closedNetworkStep, egressStep, networkStep, removeNetworkStep } from './steps/network.ts';
import { endStep, launchStep, shutdownStep } from './steps/process.ts';
import { captureStep, layerStep, publishStep } from './steps/snapshot.ts';

export type Plan = readonly (Step<OperationContext> | Parallel<OperationContext>)[];
type Steps = readonly Step<OperationContext>[];

/** Files only: what a VM that is not started has. */
export const createPlan: Steps = [directoryStep, diskStep, syncStep];

export const startPlan: Steps = [initrdStep, networkStep, launchStep, guestStep];

/** {@link createPlan} and {@link startPlan} of a new VM: its disk and its network have nothing to do with each other. */
export const bootPlan: Plan = [
  { branches: [[directoryStep, diskStep, initrdStep], [networkStep]] },
  { branches: [[syncStep], [launchStep, guestStep]] },
];

/** A new VM that goes on from captured memory. */
export const clonePlan: Plan = [
  { branches: [[directoryStep, diskStep], [networkStep]] },
  { branches: [[syncStep], [spawnStep, loadStep, continueStep, growStep, hygieneStep]] },
];

const standBy: Plan = [{ branches: [[directoryStep, diskStep], [closedNetworkStep]] }, syncStep, spawnStep];

/** As far as a VM can be brought before it is known what it will be; the rest is {@link claimWaitingPlan}. */
export const waitingPlan: Plan = [...standBy, egressStep];
/** The guest has its own egress before it is anybody's: nobody can use it before the operation ends. */
export const claimWaitingPlan: Plan = [
  { branches: [[journalStep], [egressStep], [loadStep, continueStep, growStep, hygieneStep]] },
];

/** Restored and at rest already; the rest is {@link claimReadyPlan}. */
export const readyPlan: Plan = [...standBy, loadStep, continueStep, hygieneStep, pauseStep, egressStep];
export const claimReadyPlan: Plan = [
  { branches: [[journalStep], [egressStep], [continueStep, growStep, secondHygieneStep]] },
];

/** Whether the operation makes the VM's files: the journal says which layer its disk begins with. */
export function makesFiles({ detail }: Operation): boolean {
  return typeof detail.layer === 'string';
}

/** The first start of a VM that was only noted makes its files. */
export function startPlanOf(operation: Operation): Plan {
  return makesFiles(operation) ? bootPlan : startPlan;
}

export const stopPlan: Steps = [shutdownStep, endStep, removeNetworkStep];

export const removePlan: Steps = [endStep, removeNetworkStep, removeFilesStep];

export const snapshotPlan: Steps = [layerStep, captureStep, publishStep];

/** Nothing of it needs undoing: whatever was done of it, the disk has the same content. */
export const mergePlan: Steps = [streamStep, dropStep];
