/** Which steps make up each operation, in order. */

import type { OperationContext } from './context.ts';
import type { Step } from './run-steps.ts';
import { directoryStep, diskStep, initrdStep, removeFilesStep } from './steps/files.ts';
import { detachStep, endStep, guestStep, launchStep, networkStep, shutdownStep } from './steps/host.ts';
import { newLayerStep, publishStep, switchStep } from './steps/snapshot.ts';

type Plan = readonly Step<OperationContext>[];

/** Files only: what a VM that is not started has. */
export const createPlan: Plan = [directoryStep, diskStep];

export const startPlan: Plan = [initrdStep, networkStep, launchStep, guestStep];

export const stopPlan: Plan = [shutdownStep, endStep, detachStep];

export const removePlan: Plan = [endStep, detachStep, removeFilesStep];

export const snapshotPlan: Plan = [newLayerStep, switchStep, publishStep];
