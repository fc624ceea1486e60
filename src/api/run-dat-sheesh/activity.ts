import { randomUUID } from 'node:crypto';
import type { Log } from '../../common/log.ts';
import type { VmEvent } from '../../vm/model.ts';
import type { Activity, ActivityLog } from './ports.ts';

type NewActivity = Omit<Activity, 'id' | 'createdAt'>;

const vmEvents: Readonly<Partial<Record<VmEvent['type'], readonly [type: string, verb: string]>>> = {
  'vm.created': ['vm.created', 'created'],
  'vm.started': ['vm.started', 'started'],
  'vm.resumed': ['vm.started', 'started'],
  'vm.stopped': ['vm.stopped', 'stopped'],
  'vm.paused': ['vm.stopped', 'stopped'],
  'vm.removed': ['vm.deleted', 'deleted'],
  'vm.failed': ['vm.failed', 'failed'],
};

function fromVmEvent(event: VmEvent): NewActivity | null {
  if (event.type === 'snapshot.created' && event.snapshotId !== undefined) {
    return {
      type: 'snapshot.created',
      entityType: 'snapshot',
      entityId: event.snapshotId,
      message: `Snapshot ${event.snapshotId} of VM ${event.vmId} created`,
    };
  }
  const row = vmEvents[event.type];
  if (row === undefined) return null;
  return { type: row[0], entityType: 'vm', entityId: event.vmId, message: `VM ${event.vmId} ${row[1]}` };
}

/** Writes the feed. A feed that cannot be written is logged and never fails the request it tells of. */
export class ActivityRecorder {
  readonly #store: ActivityLog;
  readonly #clock: () => number;
  readonly #log: Log;
  #written: Promise<unknown> = Promise.resolve();

  constructor(store: ActivityLog, clock: () => number, log: Log) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
  }

  record(activity: NewActivity): void {
    const entry = { id: randomUUID(), createdAt: new Date(this.#clock()).toISOString(), ...activity };
    // Whoever reads the feed waits for it. Those that come together are written together, in order.
    const written = this.#store
      .record(entry)
      .catch((error: unknown) => this.#log.warn({ err: error, type: entry.type }, 'activity was not recorded'));
    // Its outcome is nothing: those of all that was ever written would be held by the next.
    this.#written = Promise.all([this.#written, written]).then(() => {});
  }

  recordVmEvent(event: VmEvent): void {
    const activity = fromVmEvent(event);
    if (activity !== null) this.record(activity);
  }

  async list(limit: number): Promise<readonly Activity[]> {
    await this.#written;
    return this.#store.list(limit);
  }
}
