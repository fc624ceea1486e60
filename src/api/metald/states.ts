import type { VmState as Recorded } from '../../vm/model.ts';
import { VmState } from './gen/vmprovisioner/v1/vm_pb.js';

/**
 * The dialect has no states for what is under way: a VM is what it was until it is something else. One of which parts
 * could not be removed is nothing a client of the dialect knows.
 */
const states: Readonly<Record<Recorded, VmState>> = {
  created: VmState.CREATED,
  starting: VmState.CREATED,
  running: VmState.RUNNING,
  paused: VmState.PAUSED,
  stopping: VmState.RUNNING,
  stopped: VmState.SHUTDOWN,
  failed: VmState.UNSPECIFIED,
  removing: VmState.SHUTDOWN,
};

export function wireState(vm: { readonly state: Recorded; readonly startedAt: string | null }): VmState {
  if (vm.state === 'starting' && vm.startedAt !== null) return VmState.SHUTDOWN;
  return states[vm.state];
}

/** `VM_STATE_RUNNING`, as JSON and messages have it. */
export function stateName(state: Recorded): string {
  return `VM_STATE_${VmState[states[state]]}`;
}
