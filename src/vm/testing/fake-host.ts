import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { Admission } from '../../common/concurrency.ts';
import type { Engine, EngineExit, EngineState, EngineVmSpec } from '../../engine/engine.ts';
import type { GuestClient, GuestUse } from '../../guest/guest.ts';
import type { Image, ImageStore } from '../../image/images.ts';
import { createBridgePlan } from '../../net/bridge-plan.ts';
import type { Network } from '../../net/network.ts';
import { LoadedMemories } from '../../snapshot/loaded-memories.ts';
import { type Database, openDatabase } from '../../store/database.ts';
import { SnapshotStore } from '../../store/snapshot-store.ts';
import { VmStore } from '../../store/vm-store.ts';
import { Assets } from '../assets.ts';
import type { VmDependencies } from '../context.ts';
import { VmLayout } from '../layout.ts';
import type { Quotas } from '../model.ts';

export type FakeCall = 'start' | 'observe' | 'destroy' | 'ready' | 'waitForExit';

/**
 * A host whose VMs are names in a map, for failures that no real host shows when asked to: an engine that cannot end a
 * process, a monitor that hangs. Store, files, disks and leases are real.
 */
export class FakeHost {
  readonly home: string;
  readonly db: Database;
  /** What runs, by VM id. */
  readonly processes = new Map<string, EngineState>();
  /** What the engine was last asked to start, by VM id. */
  readonly specs = new Map<string, EngineVmSpec>();
  /** Calls that fail. */
  readonly failing = new Set<FakeCall>();
  /** Calls that wait for a promise before they go on. */
  readonly waiting = new Map<FakeCall, Promise<void>>();
  /** VMs that were looked at, in order. */
  readonly observed: string[] = [];
  /** How many guest clients were closed. */
  closedGuests = 0;
  /** Free space that the file system must have, MiB. */
  reserveMiB = 0;
  readonly #watches = new Map<string, { onExit(exit: EngineExit): void; onChange(): void }>();

  private constructor(home: string, db: Database) {
    this.home = home;
    this.db = db;
  }

  static async create(): Promise<FakeHost> {
    const home = await mkdtemp(join(tmpdir(), 'berth-vms-'));
    for (const name of ['vms', 'snapshots', 'image']) await mkdir(join(home, name));
    for (const name of ['kernel', 'initrd', 'rootfs']) await writeFile(join(home, 'image', name), name);
    return new FakeHost(home, openDatabase(join(home, 'berth.db')));
  }

  async remove(): Promise<void> {
    this.db.close();
    await rm(this.home, { recursive: true });
  }

  dependencies(quotas: Partial<Quotas> = {}): VmDependencies {
    const reserve = () => this.reserveMiB;
    return {
      store: new VmStore(this.db),
      snapshots: new SnapshotStore(this.db),
      engine: this.#engine() as Engine,
      network: this.#network() as Network,
      images: this.#images() as ImageStore,
      assets: new Assets([join(this.home, 'image')]),
      layout: new VmLayout(this.home),
      memories: new LoadedMemories(0),
      guestClient: (_, { use }) => this.#guest(use) as GuestClient,
      settings: {
        quotas: { ...ampleQuotas, ...quotas },
        defaultDiskMiB: 1,
        bootTimeoutMs: 1000,
        bootSlotMs: 1,
        stopGraceMs: 1,
        reconcileIntervalMs: 20,
        uidBase: null,
        cpuPercentPerCpu: null,
        memoryOverheadMiB: null,
        templates: { build: false, budgetBytes: 0 },
        spares: { waiting: 0, ready: 0 },
        parkAfterSeconds: 0,
        get diskReserveMiB() {
          return reserve();
        },
      },
      admission: new Admission(2),
      log: pino({ level: 'silent' }),
    };
  }

  /** A process does something that nobody asked for, and the engine tells. */
  change(id: string, state: EngineState): void {
    this.processes.set(id, state);
    this.#watches.get(id)?.onChange();
  }

  /** A process ends by itself, and the engine tells. */
  end(id: string, reason: EngineExit['reason']): void {
    this.processes.delete(id);
    this.#watches.get(id)?.onExit({ id, reason, detail: '' });
  }

  async #call(name: FakeCall): Promise<void> {
    await this.waiting.get(name);
    if (this.failing.has(name)) throw new Error(`${name} fails`);
  }

  #engine(): Partial<Engine> {
    return {
      name: 'fake',
      fingerprint: async () => 'fake',
      start: async (spec) => {
        const { id } = spec;
        await this.#call('start');
        this.specs.set(id, spec);
        this.processes.set(id, 'running');
      },
      observe: async (id) => {
        this.observed.push(id);
        await this.#call('observe');
        return { state: this.processes.get(id) ?? 'absent', pid: null };
      },
      watch: async (id, _dir, onExit, onChange = () => {}) => {
        this.#watches.set(id, { onExit, onChange });
      },
      pause: async (id) => this.change(id, 'paused'),
      resume: async (id) => this.change(id, 'running'),
      cpuMicros: async () => performance.now() * 1000,
      usage: async () => ({ pid: 1, cpuMicros: performance.now() * 1000, residentBytes: 0, disks: new Map() }),
      powerButton: async () => {},
      waitForExit: async (id) => {
        await this.#call('waitForExit');
        return !this.processes.has(id);
      },
      destroy: async (id) => {
        await this.#call('destroy');
        this.processes.delete(id);
      },
      consoleLog: (dir) => join(dir, 'console.log'),
      controlSocket: (dir) => join(dir, 'control.sock'),
      listLive: async () => new Map([...this.processes.keys()].map((id, index) => [id, index + 1])),
    };
  }

  /** Leases of a bridge that nothing is plugged into. */
  #network(): Partial<Network> {
    return {
      plan,
      reconcile: async () => {},
      verify: async () => [],
      attach: async () => {},
      detach: async () => {},
      attached: async () => false,
      nic: ({ tap, mac }) => ({ name: 'net', backend: { kind: 'tap', tap }, mac }),
      traffic: async () => new Map(),
      onNextPacket: async () => () => {},
    };
  }

  #guest(use: GuestUse): Partial<GuestClient> {
    return {
      ready: async () => {
        await this.#call('ready');
        return hello;
      },
      configure: async () => ({ hello, steps: [], clockSkewMs: 0 }),
      setClock: async () => {},
      sync: async () => {
        await use.begin();
        use.end();
      },
      powerOff: async () => {
        throw new Error('this guest does not listen');
      },
      close: () => {
        this.closedGuests++;
      },
    };
  }

  #images(): Partial<ImageStore> {
    const path = (name: string) => join(this.home, 'image', name);
    return {
      default: () => image,
      get: () => image,
      find: () => image,
      files: async () => ({ kernel: path('kernel'), rootfs: path('rootfs'), initrd: path('initrd') }),
    };
  }
}

const file = { sha256: '0'.repeat(64), bytes: 6, uploadedAt: '2026-01-01T00:00:00.000Z' };
const image: Image = {
  id: 'img-1',
  name: 'test',
  description: '',
  createdAt: file.uploadedAt,
  kernel: file,
  rootfs: file,
  isDefault: true,
};

const plan = createBridgePlan({
  ...{ bridge: 'berth0', address4: '172.16.0.1/16', address6: 'fd00::1/64' },
  resolver: false,
});

const hello = { protocol: 1, bootId: 'boot', kernel: '6.1.0' };

const ampleQuotas: Quotas = {
  maxVms: 10,
  maxSnapshots: 10,
  maxCpusPerVm: 4,
  maxMemoryMiBPerVm: 1024,
  minMemoryMiBPerVm: 64,
  maxDiskMiBPerVm: 1024,
  totalCpus: 100,
  totalMemoryMiB: 100_000,
  totalDiskMiB: 100_000,
  tenant: { maxVms: 10, totalCpus: 100, totalMemoryMiB: 100_000, totalDiskMiB: 100_000 },
};
