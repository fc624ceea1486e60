import { randomUUID } from 'node:crypto';
import { BerthError } from '../../../common/errors.ts';
import type { VmService } from '../../../vm/api.ts';
import type { Snapshot, Vm, VmEvent, VmState } from '../../../vm/model.ts';
import type { Quotas } from '../../../vm/quotas.ts';
import type { CreateVm } from '../../../vm/request.ts';
import { sampleVm } from '../../../vm/testing/sample-vm.ts';
import { FakeGuest } from './fake-guest.ts';

const createdAt = '2026-01-02T03:04:05.678Z';

const testQuotas: Quotas = {
  maxVms: 20,
  maxSnapshots: 20,
  maxCpusPerVm: 8,
  maxMemoryMiBPerVm: 8192,
  minMemoryMiBPerVm: 128,
  maxDiskMiBPerVm: 1_048_576,
  totalCpus: 1000,
  totalMemoryMiB: 1_000_000,
  totalDiskMiB: 10_000_000,
  tenant: { maxVms: 20, maxSnapshots: 20, totalCpus: 1000, totalMemoryMiB: 1_000_000, totalDiskMiB: 10_000_000 },
};

function notFaked(): never {
  throw new Error('not faked');
}

/** VMs in memory that boot at once. */
export class FakeVms implements VmService {
  readonly quotas: Quotas;
  readonly fakeGuest = new FakeGuest();
  readonly requests: CreateVm[] = [];
  #revision = 0;
  #vms: readonly Vm[] = Object.freeze([]);
  readonly #snapshots: Snapshot[] = [];
  readonly #listeners = new Set<(event: VmEvent) => void>();

  constructor(quotas: Partial<Quotas> = {}) {
    this.quotas = { ...testQuotas, ...quotas };
  }

  get revision(): number {
    return this.#revision;
  }

  list(): readonly Vm[] {
    return this.#vms;
  }

  get(id: string): Vm {
    const vm = this.#vms.find((candidate) => candidate.id === id);
    if (vm === undefined) throw new BerthError('vm_not_found', { id });
    return vm;
  }

  async create(request: CreateVm): Promise<Vm> {
    if (this.#vms.length >= this.quotas.maxVms) {
      throw new BerthError('quota_exceeded', { resource: 'VM', limit: `maxVms=${this.quotas.maxVms}` });
    }
    if (request.snapshotId !== undefined) this.getSnapshot(request.snapshotId);
    this.requests.push(request);
    const number = this.#vms.length + 2;
    const vm = sampleVm(number, {
      id: randomUUID(),
      name: '',
      state: 'running',
      engine: 'fake',
      cpus: request.cpus,
      memoryMiB: request.memoryMiB,
      diskMiB: request.diskMiB ?? 512,
      imageId: request.imageId ?? 'img-00000000-0000-4000-8000-000000000000',
      snapshotId: request.snapshotId ?? null,
      uid: null,
      egress: request.egress,
      createdAt,
      startedAt: createdAt,
      parkAfterSeconds: request.parkAfterSeconds ?? null,
    });
    this.#replace([...this.#vms, vm]);
    this.emit({ id: this.#revision, at: createdAt, type: 'vm.created', vmId: vm.id, tenant: '' });
    return vm;
  }

  /** Puts a VM into a state, as something outside the API would. */
  force(id: string, change: Partial<Vm>): Vm {
    const vm = { ...this.get(id), ...change };
    this.#replace(this.#vms.map((candidate) => (candidate.id === id ? vm : candidate)));
    return vm;
  }

  async fork(id: string, count: number): Promise<readonly Vm[]> {
    this.#require(id, ['running'], 'running');
    if (!Number.isInteger(count) || count < 1 || count > 64)
      throw new BerthError('invalid_argument', { reason: 'count must be a whole number from 1 to 64' });
    const { cpus, memoryMiB, egress } = this.get(id);
    return Promise.all(Array.from({ length: count }, () => this.create({ cpus, memoryMiB, egress })));
  }

  async warm(): Promise<void> {}

  async start(id: string): Promise<Vm> {
    this.#require(id, ['created', 'stopped'], 'stopped');
    return this.force(id, { state: 'running' });
  }

  async stop(id: string): Promise<Vm> {
    this.#require(id, ['running', 'paused'], 'running');
    return this.force(id, { state: 'stopped' });
  }

  async resume(id: string): Promise<Vm> {
    this.#require(id, ['paused'], 'paused');
    return this.force(id, { state: 'running' });
  }

  async park(id: string): Promise<void> {
    this.#require(id, ['running'], 'running');
    this.force(id, { parked: true });
  }

  async remove(id: string): Promise<void> {
    this.get(id);
    this.#replace(this.#vms.filter((vm) => vm.id !== id));
    this.emit({ id: this.#revision, at: createdAt, type: 'vm.removed', vmId: id, tenant: '' });
  }

  guest(id: string): FakeGuest {
    this.#require(id, ['running'], 'running');
    return this.fakeGuest;
  }

  async log(id: string, kind: 'console' | 'engine', tail: number) {
    this.get(id);
    const lines = Array.from({ length: 5 }, (_, index) => `${kind} ${index}`).slice(-tail);
    return { lines, truncated: tail < 5, updatedAt: kind === 'console' ? createdAt : null };
  }

  async snapshot(id: string): Promise<Snapshot> {
    this.#require(id, ['running'], 'running');
    const { imageId, cpus, memoryMiB, diskMiB } = this.get(id);
    const snapshot: Snapshot = {
      id: `snap-${randomUUID()}`,
      kind: 'disk',
      createdAt,
      sourceVmId: id,
      tenant: '',
      imageId,
      cpus,
      memoryMiB,
      diskMiB,
    };
    this.#snapshots.push(snapshot);
    return snapshot;
  }

  snapshots(): readonly Snapshot[] {
    return this.#snapshots;
  }

  getSnapshot(id: string): Snapshot {
    const snapshot = this.#snapshots.find((candidate) => candidate.id === id);
    if (snapshot === undefined) throw new BerthError('snapshot_not_found');
    return snapshot;
  }

  async removeSnapshot(id: string): Promise<void> {
    this.#snapshots.splice(this.#snapshots.indexOf(this.getSnapshot(id)), 1);
  }

  onEvent(listener: (event: VmEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(event: VmEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  reboot = notFaked;
  pause = notFaked;
  usage = notFaked;
  controlSocket = notFaked;
  listOf = notFaked;
  getOf = notFaked;
  resize = notFaked;

  #require(id: string, states: readonly VmState[], expected: VmState): void {
    const { state } = this.get(id);
    if (!states.includes(state)) throw new BerthError('wrong_state', { expected, actual: state });
  }

  #replace(vms: readonly Vm[]): void {
    this.#vms = Object.freeze(vms);
    this.#revision += 1;
  }
}
