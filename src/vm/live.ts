import type { Log } from '../common/log.ts';
import type { Engine, EngineExit } from '../engine/engine.ts';
import type { GuestClient, GuestUse } from '../guest/guest.ts';
import type { VmDependencies } from './context.ts';
import type { VmLayout } from './layout.ts';
import type { Parking } from './parking.ts';

export interface LiveVm {
  readonly guest: GuestClient;
  /** The engine holds it because the disk of the host is full. */
  readonly isStalled: boolean;
  /** Aborted when the VM's process has ended. */
  readonly ended: AbortSignal;
}

interface Entry {
  guest: GuestClient;
  isStalled: boolean;
  readonly use: GuestUse;
  readonly ended: AbortSignal;
  readonly controller: AbortController;
}

/** The VMs whose process runs: their guest connection, and the watch on their end. */
export class LiveVms {
  readonly #engine: Engine;
  readonly #layout: VmLayout;
  readonly #guestClient: VmDependencies['guestClient'];
  readonly #parking: Pick<Parking, 'follow' | 'unfollow'>;
  readonly #onExit: (exit: EngineExit) => void;
  readonly #onChange: (id: string) => void;
  readonly #onAdopt: (id: string) => void;
  readonly #log: Log;
  readonly #live = new Map<string, Entry>();

  constructor(options: {
    readonly engine: Engine;
    readonly layout: VmLayout;
    readonly guestClient: VmDependencies['guestClient'];
    readonly parking: Pick<Parking, 'follow' | 'unfollow'>;
    readonly onExit: (exit: EngineExit) => void;
    /** A guest was held or let go, by whomever. */
    readonly onChange: (id: string) => void;
    /** A VM's process is looked after from now on. */
    readonly onAdopt: (id: string) => void;
    readonly log: Log;
  }) {
    this.#engine = options.engine;
    this.#layout = options.layout;
    this.#guestClient = options.guestClient;
    this.#parking = options.parking;
    this.#onExit = options.onExit;
    this.#onChange = options.onChange;
    this.#onAdopt = options.onAdopt;
    this.#log = options.log;
  }

  get(id: string): LiveVm | undefined {
    return this.#live.get(id);
  }

  /** Begins to look after a VM that was just started, or found running. */
  async adopt(id: string): Promise<LiveVm> {
    this.release(id);
    const dir = this.#layout.run(id);
    const controller = new AbortController();
    const use = this.#parking.follow(id);
    const guest = this.#connect(id, use);
    const entry: Entry = { guest, isStalled: false, use, ended: controller.signal, controller };
    this.#live.set(id, entry);
    // A VM that was started again meanwhile has an entry of its own: only this one's end is told.
    const isCurrent = () => this.#live.get(id) === entry;
    const onExit = (exit: EngineExit) => {
      if (!isCurrent()) return;
      this.#log.info({ vm: id, reason: exit.reason, detail: exit.detail }, 'VM process ended');
      this.release(id);
      this.#onExit(exit);
    };
    await this.#engine.watch(id, dir, onExit, () => {
      if (isCurrent()) this.#onChange(id);
    });
    this.#onAdopt(id);
    return entry;
  }

  /**
   * Notes whether the engine holds the VM for lack of disk space. When that begins, calls to the guest that are under way
   * are ended: it may be hours until they could go on.
   */
  setStalled(id: string, isStalled: boolean): void {
    const entry = this.#live.get(id);
    if (!entry || entry.isStalled === isStalled) return;
    entry.isStalled = isStalled;
    if (!isStalled) return;
    entry.guest.close();
    entry.guest = this.#connect(id, entry.use);
  }

  /** Lets go of a VM: calls to its guest fail, waiters are told. */
  release(id: string): void {
    const entry = this.#live.get(id);
    if (!entry) return;
    this.#live.delete(id);
    this.#parking.unfollow(id);
    entry.controller.abort();
    entry.guest.close();
  }

  #connect(id: string, use: GuestUse): GuestClient {
    return this.#guestClient(() => this.#engine.openChannel(id, this.#layout.run(id)), { use });
  }

  close(): void {
    for (const id of [...this.#live.keys()]) this.release(id);
  }
}
