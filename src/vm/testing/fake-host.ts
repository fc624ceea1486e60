import { once } from 'node:events';
import { readSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Duplex, Readable, Writable } from 'node:stream';
import { pino } from 'pino';
import { runCommand } from '../../common/command.ts';
import { Admission } from '../../common/concurrency.ts';
import { BerthError } from '../../common/errors.ts';
import {
  type Engine,
  type EngineExit,
  type EngineState,
  type EngineVmSpec,
  memoryPageBytes,
} from '../../engine/engine.ts';
import type { GuestClient, GuestUse, OpenChannel } from '../../guest/guest.ts';
import type { Image, ImageStore } from '../../image/images.ts';
import type { Egress, Network } from '../../net/network.ts';
import { LoadedMemories } from '../../snapshot/loaded-memories.ts';
import { type Database, openDatabase } from '../../store/database.ts';
import { SnapshotStore } from '../../store/snapshot-store.ts';
import { VmStore } from '../../store/vm-store.ts';
import { Assets } from '../assets.ts';
import type { VmDependencies, VmSettings } from '../context.ts';
import { VmLayout } from '../layout.ts';
import type { Quotas } from '../quotas.ts';
import { ampleQuotas, hello, image, plan } from './fake-fixtures.ts';

export type FakeCall =
  | 'start'
  | 'prepare'
  | 'restore'
  | 'capture'
  | 'attach'
  | 'sync'
  | 'freeze'
  | 'thaw'
  | 'growDisk'
  | 'mergeLayers'
  | 'observe'
  | 'destroy'
  | 'waitForExit'
  | 'ready'
  | 'become'
  | 'setClock';

/**
 * A host whose VMs are names in a map, for failures that no real host shows when asked to: an engine that cannot end a
 * process, a monitor that hangs. Store, files, disks and leases are real; what is captured of a VM's memory is one page
 * with its id, and a VM that is restored has nothing but the note of whose memory that was.
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
  /** What a VM may reach by now, by its id. */
  readonly egressOf = new Map<string, Egress>();
  /** Calls to engine and guest that were begun, in order. */
  readonly calls: { readonly name: FakeCall; readonly id: string }[] = [];
  /** How long guests were given to end, in order, milliseconds. */
  readonly graces: number[] = [];
  /** Looks at each call as it begins: what it throws, the call fails with. */
  onCall: (name: FakeCall, id: string) => void | Promise<void> = () => {};
  /** Whose memory a VM began with, by VM id. */
  readonly memoryOf = new Map<string, string>();
  /** What the engine's captures depend on. */
  fingerprint = 'fake';
  /** Rate of the counter that guests go by. */
  counterKhz = 2_000_000;
  /** The one image there is, under whatever name it is asked for; null when it was removed. */
  image: Image | null = image;
  /** Another one after the host went down. */
  hostBoot = 'first';
  /** Whether processes answer that they do not take a new layer; where `attach` fails, that they did is not answered. */
  refusesLayers = false;
  /** How many guest clients were closed. */
  closedGuests = 0;
  /** Free space that the file system must have, MiB. */
  reserveMiB = 0;
  readonly #memories: LoadedMemories[] = [];
  /** Who is to be told of the next packet, by tap. */
  readonly #onPacket = new Map<string, () => void>();
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
    for (const memories of this.#memories) await memories.close();
    await rm(this.home, { recursive: true });
  }

  dependencies(quotas: Partial<Quotas> = {}, settings: Partial<VmSettings> = {}): VmDependencies {
    const reserve = () => this.reserveMiB;
    const memories = new LoadedMemories(0);
    this.#memories.push(memories);
    return {
      store: new VmStore(this.db),
      snapshots: new SnapshotStore(this.db),
      engine: this.#engine() as Engine,
      network: this.#network() as Network,
      images: this.#images() as ImageStore,
      assets: new Assets([join(this.home, 'image')]),
      layout: new VmLayout(this.home),
      memories,
      guestClient: (open, { use }) => this.#guest(open, use) as GuestClient,
      settings: {
        quotas: { ...ampleQuotas, ...quotas },
        defaultDiskMiB: 1,
        diskHeadroomMiB: 0,
        bootTimeoutMs: 1000,
        bootSlotMs: 1,
        stopGraceMs: 1,
        reconcileIntervalMs: 20,
        uidBase: null,
        cpuPercentPerCpu: null,
        memoryOverheadMiB: null,
        layers: { merged: 8, quietMs: 1 },
        templates: { build: false, budgetBytes: 0 },
        spares: { waiting: 0, ready: 0 },
        parkAfterSeconds: 0,
        ...settings,
        get diskReserveMiB() {
          return reserve();
        },
      },
      hostBoot: this.hostBoot,
      admission: new Admission(2),
      captures: new Admission(1),
      log: pino({ level: 'silent' }),
    };
  }

  /** A process does something that nobody asked for, and the engine tells. */
  change(id: string, state: EngineState): void {
    this.processes.set(id, state);
    this.#watches.get(id)?.onChange();
  }

  /** A packet comes for the VM that has a tap; false when nobody looks for one. */
  packet(tap: string): boolean {
    const onPacket = this.#onPacket.get(tap);
    this.#onPacket.delete(tap);
    onPacket?.();
    return onPacket !== undefined;
  }

  /** A process ends by itself, and the engine tells. */
  end(id: string, reason: EngineExit['reason']): void {
    this.processes.delete(id);
    this.#watches.get(id)?.onExit({ id, reason, detail: '' });
  }

  async #call(name: FakeCall, id: string): Promise<void> {
    this.calls.push({ name, id });
    await this.onCall(name, id);
    await this.waiting.get(name);
    if (this.failing.has(name)) throw new Error(`${name} fails`);
  }

  #engine(): Partial<Engine> {
    return {
      name: 'fake',
      fingerprint: async (shape) => `${this.fingerprint} ${JSON.stringify(shape)}`,
      counterKhz: async () => this.counterKhz,
      start: async (spec) => {
        const { id } = spec;
        await this.#call('start', id);
        this.specs.set(id, spec);
        this.processes.set(id, 'running');
      },
      prepare: async (spec, { memoryFd }) => {
        const { id } = spec;
        await this.#call('prepare', id);
        const page = Buffer.alloc(memoryPageBytes);
        readSync(memoryFd, page, 0, memoryPageBytes, 0);
        this.specs.set(id, spec);
        this.memoryOf.set(id, page.toString('utf8', 0, page.indexOf(0)));
        this.processes.set(id, 'paused');
      },
      restore: async (id) => {
        await this.#call('restore', id);
        if (!this.processes.has(id)) throw new Error('there is no process');
      },
      capture: async (id, _dir, { statePath, layer, atRest, take }) => {
        await this.#call('capture', id);
        await writeFile(statePath, `devices of ${id}`);
        layer?.mayHaveWrites(true);
        if (this.refusesLayers) {
          layer?.mayHaveWrites(false);
          throw new Error('there is no such disk');
        }
        await this.#call('attach', id);
        atRest();
        const page = Buffer.alloc(memoryPageBytes);
        page.write(id);
        return { pausedMicros: 0, handOut: () => take(0, page) };
      },
      growDisk: async (id) => this.#call('growDisk', id),
      // As QEMU would, but on files that nobody has open.
      mergeLayers: async (id, dir, { above, base, signal }) => {
        await Promise.race([this.#call('mergeLayers', id), once(signal, 'abort')]);
        signal.throwIfAborted();
        const format = base.endsWith('.qcow2') ? 'qcow2' : 'raw';
        const args = ['rebase', '-f', 'qcow2', '-b', basename(base), '-F', format, basename(above[0]!)];
        await runCommand('qemu-img', args, { cwd: join(dir, '..') });
      },
      observe: async (id) => {
        this.observed.push(id);
        await this.#call('observe', id);
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
      waitForExit: async (id, _dir, ms) => {
        this.graces.push(ms);
        await this.#call('waitForExit', id);
        return !this.processes.has(id);
      },
      destroy: async (id) => {
        await this.#call('destroy', id);
        this.processes.delete(id);
      },
      consoleLog: (dir) => join(dir, 'console.log'),
      controlSocket: (dir) => join(dir, 'control.sock'),
      listLive: async () => new Map([...this.processes.keys()].map((id, index) => [id, index + 1])),
      openChannel: async (id) => new FakeChannel(id),
    };
  }

  /** Leases of a bridge that nothing is plugged into. */
  #network(): Partial<Network> {
    return {
      plan,
      reconcile: async () => {},
      verify: async () => [],
      attach: async ({ vmId, egress }) => {
        this.egressOf.set(vmId, egress);
      },
      detach: async ({ vmId }) => {
        this.egressOf.delete(vmId);
      },
      attached: async () => false,
      nic: ({ tap, mac }) => ({ name: 'net', backend: { kind: 'tap', tap }, mac }),
      traffic: async () => new Map(),
      onNextPacket: async ([tap = ''], onPacket) => {
        this.#onPacket.set(tap, onPacket);
        return () => this.#onPacket.delete(tap);
      },
    };
  }

  #guest(open: OpenChannel, use: GuestUse): Partial<GuestClient> {
    const call = async (name: FakeCall) => {
      const { id } = (await open()) as FakeChannel;
      await this.#call(name, id);
    };
    return {
      ready: async () => {
        await call('ready');
        return hello;
      },
      configure: async () => ({ hello, steps: [], clockSkewMs: 0 }),
      become: async () => {
        await call('become');
        return { hello, steps: [{ name: 'clock', outcome: 'done', detail: '', micros: 1 }], clockSkewMs: 0 };
      },
      setClock: () => call('setClock'),
      exec: () => ({
        stdout: Readable.from([]),
        stderr: Readable.from([]),
        stdin: new Writable(),
        exit: Promise.resolve({ exitCode: 0, signal: null, timedOut: false, durationMicros: 1 }),
        resize: () => {},
        kill: () => {},
      }),
      sync: async () => {
        await use.begin();
        use.end();
        await call('sync');
      },
      freeze: () => call('freeze'),
      thaw: () => call('thaw'),
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
      default: () => this.image,
      get: () => {
        if (!this.image) throw new BerthError('image_not_found');
        return this.image;
      },
      find: () => this.image,
      files: async () => ({ kernel: path('kernel'), rootfs: path('rootfs'), initrd: path('initrd') }),
    };
  }
}

/** Nothing but the name of whose guest it leads to. */
class FakeChannel extends Duplex {
  readonly id: string;

  constructor(id: string) {
    super();
    this.id = id;
  }
}
