import type { StepTiming } from '../src/vm/run-steps.ts';
import type { TestDaemon } from '../test/support/daemon.ts';

/** What the steps of each operation of a kind took, oldest first, from the daemon's log. */
export function operationSteps(daemon: TestDaemon, kind: string): readonly (readonly StepTiming[])[] {
  return daemon
    .output()
    .split('\n')
    .filter((line) => line.includes(`"operation":"${kind}"`) && line.includes('"steps"'))
    .map((line) => (JSON.parse(line) as { steps: StepTiming[] }).steps);
}

/** Microseconds during which at least one of the steps was under way. */
export function covered(steps: readonly StepTiming[]): number {
  let total = 0;
  let until = 0;
  for (const { startMicros, micros } of steps.toSorted((a, b) => a.startMicros - b.startMicros)) {
    const end = startMicros + micros;
    total += Math.max(0, end - Math.max(until, startMicros));
    until = Math.max(until, end);
  }
  return total;
}
