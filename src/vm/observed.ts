import type { EngineState } from '../engine/engine.ts';
import type { Vm } from './model.ts';

/** What can be seen of a VM whose process lives; `hung`: the process does not answer. */
export type Seen = Exclude<EngineState, 'absent'> | 'hung';

const stalledReason = 'the disk of the host is full; it goes on by itself when there is space again';
const foundPausedReason = 'it was found paused';
const hungReason = 'its process does not answer';
const unpluggedReason = 'its network device is gone from the host; stop and start it to give it another';

/** What the record of a running or paused VM has to say, given what is seen of it. A pause that was asked for has no reason. */
export function observedRecord(vm: Vm, seen: Seen, isUnplugged = false): Pick<Vm, 'state' | 'reason'> {
  switch (seen) {
    case 'running':
      return { state: 'running', reason: isUnplugged ? unpluggedReason : null };
    case 'stalled':
      return { state: 'paused', reason: stalledReason };
    case 'paused':
      if (vm.parked) return { state: 'running', reason: isUnplugged ? unpluggedReason : null };
      return { state: 'paused', reason: isKnownPause(vm) ? vm.reason : foundPausedReason };
    case 'hung':
      return { state: vm.state, reason: hungReason };
  }
}

function isKnownPause({ state, reason }: Vm): boolean {
  return state === 'paused' && reason !== stalledReason && reason !== hungReason;
}
