import { settled } from '../common/concurrency.ts';
import { failpoint } from '../common/failpoint.ts';
import type { Log } from '../common/log.ts';

/**
 * One measured, repeatable part of an operation. `run` and `undo` look at the host before they act: either may be called
 * when the other, or itself, was cut off half-way by a crash.
 */
export interface Step<C> {
  /**
   * As in logs, failpoints and benchmarks, never in the journal. Its constant is called the same, with a word before it where
   * several steps share a name: no plan has two of them.
   */
  readonly name: string;
  /** False leaves the step out; default true. */
  needed?(context: C): boolean;
  run(context: C): Promise<void>;
  /** Puts the host back as it was before `run`. Absent when there is nothing to put back. */
  undo?(context: C): Promise<void>;
  /** Whether the host is as `run` leaves it: lets an operation that is finished after a crash skip what was done. */
  check?(context: C): Promise<boolean>;
}

/** Branches that do not need one another, run side by side; each is steps in order. */
export interface Parallel<C> {
  readonly branches: readonly (readonly Step<C>[])[];
}

export type Plan<C> = readonly (Step<C> | Parallel<C>)[];

/** All steps of a plan, in an order that it may be run in. */
export function stepsOf<C>(plan: Plan<C>): readonly Step<C>[] {
  return plan.flatMap((part) => ('branches' in part ? part.branches.flat() : [part]));
}

export interface StepTiming {
  readonly name: string;
  /** From the beginning of the operation. */
  readonly startMicros: number;
  readonly micros: number;
}

/** An operation failed, with `cause`, and something of what it had done is still there. */
export class NotUndoneError extends Error {
  constructor(cause: unknown) {
    super('an operation failed and could not be undone', { cause });
    this.name = 'NotUndoneError';
  }
}

/**
 * Runs a plan. When a step fails, it and those begun before it are undone in reverse, once those beside it have ended, and
 * the failure is thrown: as it is, or as the cause of a {@link NotUndoneError}.
 */
export async function runSteps<C>(
  operation: string,
  plan: Plan<C>,
  context: C,
  log: Log,
): Promise<readonly StepTiming[]> {
  const timings: StepTiming[] = [];
  const begun: Step<C>[] = [];
  const origin = performance.now();
  const runInOrder = async (steps: readonly Step<C>[]) => {
    for (const step of steps) {
      if (step.needed?.(context) === false) continue;
      failpoint(`${operation}.${step.name}.before`);
      begun.push(step);
      const started = performance.now();
      await step.run(context);
      timings.push({
        name: step.name,
        startMicros: micros(started - origin),
        micros: micros(performance.now() - started),
      });
      failpoint(`${operation}.${step.name}.after`);
    }
  };
  try {
    for (const part of plan) {
      const branches = 'branches' in part ? part.branches : [[part]];
      await settled(branches.map(runInOrder));
    }
  } catch (error) {
    throw (await undoSteps(operation, begun, context, log)) ? error : new NotUndoneError(error);
  }
  return timings;
}

function micros(ms: number): number {
  return Math.round(ms * 1000);
}

/** Undoes steps in reverse order. Each is tried, whatever became of the others; failures are logged and reported. */
export async function undoSteps<C>(
  operation: string,
  steps: readonly Step<C>[],
  context: C,
  log: Log,
): Promise<boolean> {
  let clean = true;
  for (const step of steps.toReversed()) {
    if (!step.undo || step.needed?.(context) === false) continue;
    try {
      await step.undo(context);
    } catch (error) {
      clean = false;
      log.error({ err: error, operation, step: step.name }, 'a step could not be undone');
    }
  }
  return clean;
}

/** Carries an interrupted operation to its end: steps whose outcome is already there are left alone. */
export async function finishSteps<C>(steps: readonly Step<C>[], context: C): Promise<void> {
  for (const step of steps) {
    if (step.needed?.(context) === false) continue;
    if (await step.check?.(context)) continue;
    await step.run(context);
  }
}
