/** Which steps make up each operation, in order. */

import type { Operation } from '../store/vm-store.ts';
import type { OperationContext } from './context.ts';
import type { Step } from './run-steps.ts';
import { continueStep, egressStep, growStep, loadStep, pauseStep, prepareStep, renewStep } from './steps/clone.ts';
import { directoryStep, diskStep, initrdStep, removeFilesStep } from './steps/files.ts';
import { detachStep, endStep, guestStep, launchStep, networkStep, shutdownStep } from './steps/host.ts';
import { captureStep, newLayerStep, publishStep } from './steps/snapshot.ts';

export type Plan = readonly Step<OperationContext>[];

/** Files only: what a VM that is not started has. */
export const createPlan: Plan = [directoryStep, diskStep];

export const startPlan: Plan = [initrdStep, networkStep, launchStep, guestStep];

/** In place of a start: after {@link createPlan}, goes on from captured memory. */
export const clonePlan: Plan = [networkStep, prepareStep, loadStep, continueStep, growStep, renewStep];

/** As far as a VM can be brought before it is known what it will be; the rest is {@link claimWaitingPlan}. */
export const waitingPlan: Plan = [networkStep, prepareStep];
export const claimWaitingPlan: Plan = [egressStep, loadStep, continueStep, growStep, renewStep];

/** Restored and at rest already; the rest is {@link claimReadyPlan}. */
export const readyPlan: Plan = [networkStep, prepareStep, loadStep, continueStep, renewStep, pauseStep];
export const claimReadyPlan: Plan = [egressStep, continueStep, growStep, renewStep];
/** Whether the operation makes the VM's files: the journal says which layer its disk begins with. */
export function makesFiles({ detail }: Operation): boolean {
  return typeof detail.layer === 'string';
}

/** The first start of a VM that was only noted makes its files. */
export function startPlanOf(operation: Operation): Plan {
  return makesFiles(operation) ? [...createPlan, ...startPlan] : startPlan;
}

export const stopPlan: Plan = [shutdownStep, endStep, detachStep];

export const removePlan: Plan = [endStep, detachStep, removeFilesStep];

export const snapshotPlan: Plan = [newLayerStep, captureStep, publishStep];
