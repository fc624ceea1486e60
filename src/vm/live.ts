import type { Log } from '../common/log.ts';
import type { Engine, EngineExit } from '../engine/engine.ts';
import type { GuestClient, OpenChannel } from '../guest/guest.ts';
import type { VmLayout } from './layout.ts';

export interface LiveVm {
  readonly guest: GuestClient;
  /** Aborted when the VM's process has ended. */
  readonly ended: AbortSignal;
}

/** The VMs whose process runs: their guest connection, and the watch on their end. */
export class LiveVms {
  readonly #engine: Engine;
  readonly #layout: VmLayout;
  readonly #guestClient: (open: OpenChannel) => GuestClient;
  readonly #onExit: (exit: EngineExit) => void;
  readonly #log: Log;
  readonly #live = new Map<string, LiveVm & { readonly controller: AbortController }>();

  constructor(options: {
    readonly engine: Engine;
    readonly layout: VmLayout;
    readonly guestClient: (open: OpenChannel) => GuestClient;
    readonly onExit: (exit: EngineExit) => void;
    readonly log: Log;
  }) {
    this.#engine = options.engine;
    this.#layout = options.layout;
    this.#guestClient = options.guestClient;
    this.#onExit = options.onExit;
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
    const guest = this.#guestClient(() => this.#engine.openChannel(id, dir));
    const entry = { guest, ended: controller.signal, controller };
    this.#live.set(id, entry);
    await this.#engine.watch(id, dir, (exit) => {
      // A VM that was started again meanwhile has an entry of its own: only this one's end is told.
      if (this.#live.get(id) !== entry) return;
      this.#log.info({ vm: id, reason: exit.reason, detail: exit.detail }, 'VM process ended');
      this.release(id);
      this.#onExit(exit);
    });
    return entry;
  }

  /** Lets go of a VM: calls to its guest fail, waiters are told. */
  release(id: string): void {
    const entry = this.#live.get(id);
    if (!entry) return;
    this.#live.delete(id);
    entry.controller.abort();
    entry.guest.close();
  }

  close(): void {
    for (const id of [...this.#live.keys()]) this.release(id);
  }
}
