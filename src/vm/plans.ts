/** Which steps make up each operation, in order. */

import type { Operation } from '../store/vm-store.ts';
import type { OperationContext } from './context.ts';
import type { Parallel, Step } from './run-steps.ts';
import {
  closedNetworkStep,
  continueStep,
  egressStep,
  growStep,
  loadStep,
  pauseStep,
  prepareStep,
  renewAgainStep,
  renewStep,
} from './steps/clone.ts';
import { directoryStep, diskStep, initrdStep, removeFilesStep, syncStep } from './steps/files.ts';
import { detachStep, endStep, guestStep, launchStep, networkStep, shutdownStep } from './steps/host.ts';
import { captureStep, newLayerStep, publishStep } from './steps/snapshot.ts';

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
  { branches: [[syncStep], [prepareStep, loadStep, continueStep, growStep, renewStep]] },
];

const standBy: Plan = [{ branches: [[directoryStep, diskStep], [closedNetworkStep]] }, syncStep, prepareStep];

/** As far as a VM can be brought before it is known what it will be; the rest is {@link claimWaitingPlan}. */
export const waitingPlan: Plan = [...standBy, egressStep];
/** The guest has its own egress before it is anybody's: nobody can use it before the operation ends. */
export const claimWaitingPlan: Plan = [{ branches: [[egressStep], [loadStep, continueStep, growStep, renewStep]] }];

/** Restored and at rest already; the rest is {@link claimReadyPlan}. */
export const readyPlan: Plan = [...standBy, loadStep, continueStep, renewStep, pauseStep, egressStep];
export const claimReadyPlan: Plan = [{ branches: [[egressStep], [continueStep, growStep, renewAgainStep]] }];

/** Whether the operation makes the VM's files: the journal says which layer its disk begins with. */
export function makesFiles({ detail }: Operation): boolean {
  return typeof detail.layer === 'string';
}

/** The first start of a VM that was only noted makes its files. */
export function startPlanOf(operation: Operation): Steps {
  return makesFiles(operation) ? [...createPlan, ...startPlan] : startPlan;
}

export const stopPlan: Steps = [shutdownStep, endStep, detachStep];

export const removePlan: Steps = [endStep, detachStep, removeFilesStep];

export const snapshotPlan: Steps = [newLayerStep, captureStep, publishStep];
