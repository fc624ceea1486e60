import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Image } from '../../../src/image/images.ts';
import type { StopOptions } from '../../../src/vm/api.ts';
import type { Snapshot, TemplateShape, Vm } from '../../../src/vm/model.ts';
import type { CreateVm } from '../../../src/vm/request.ts';
import { assertPrivateNetwork } from '../daemon.ts';

/** What can be asked of the room's process; see `VmService` and `ImageStore` for what each does. */
export interface RoomOperations {
  list(): Promise<readonly Vm[]>;
  create(request: CreateVm): Promise<Vm>;
  start(id: string): Promise<Vm>;
  stop(id: string, options?: StopOptions): Promise<Vm>;
  reboot(id: string): Promise<Vm>;
  pause(id: string): Promise<Vm>;
  resume(id: string): Promise<Vm>;
  resize(id: string, change: { readonly memoryMiB?: number; readonly diskMiB?: number }): Promise<Vm>;
  remove(id: string): Promise<void>;
  snapshot(id: string): Promise<Snapshot>;
  /** Of every role. */
  snapshots(): Promise<readonly { readonly id: string; readonly role: string }[]>;
  removeSnapshot(id: string): Promise<void>;
  fork(id: string, count: number): Promise<readonly Vm[]>;
  warm(shape: TemplateShape): Promise<void>;
  /** Takes the rows of templates away; the next room sweeps their files. */
  forgetTemplates(ids: readonly string[]): Promise<void>;
  /** How many VMs stand by that nobody sees. */
  spares(): Promise<number>;
  images(): Promise<readonly Image[]>;
  createImage(name: string): Promise<Image>;
  putRootfs(id: string, path: string): Promise<Image>;
  setDefaultImage(id: string): Promise<Image>;
  removeImage(id: string): Promise<void>;
  /** Standard output of a command that must succeed. */
  shell(id: string, command: string): Promise<string>;
  /**
   * Has the process die with SIGKILL at a failpoint (`create.disk.before`), or in place of its n-th effect from now on
   * (`effect 3`): a commit of the store, or a file made, renamed, linked or removed.
   */
  dieAt(point: string): Promise<void>;
}

/** The process died while it was to do something. */
export class RoomDied extends Error {
  constructor(signal: NodeJS.Signals | null) {
    super(`the room's process ended (${signal})`);
    this.name = 'RoomDied';
  }
}

/** Store, network, images and VMs of a data directory, as the daemon has them, in a process that may be killed. */
export class Room {
  readonly #child: ChildProcess;
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #output: Buffer[] = [];
  #number = 0;
  #hasOpened = false;
  /** Resolves when the process has ended, with the signal that ended it. */
  readonly ended: Promise<NodeJS.Signals | null>;

  private constructor(home: string, settings: Readonly<Record<string, unknown>>, diesAt = '') {
    const program = fileURLToPath(new URL('process.ts', import.meta.url));
    this.#child = fork(program, [home, JSON.stringify(settings), diesAt], {
      serialization: 'advanced',
      // Compiled once for all rooms of this run: most of what a start takes is stripping types.
      env: { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), 'berth-test-cache', 'node') },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (chunk: Buffer) => this.#output.push(chunk));
    this.ended = once(this.#child, 'exit').then(([, signal]) => {
      for (const { reject } of this.#calls.values()) reject(new RoomDied(signal));
      this.#calls.clear();
      return signal;
    });
    this.#child.on('message', ({ number, value, error }: { number: number; value?: unknown; error?: string }) => {
      // The first message of all.
      this.#hasOpened = true;
      const call = this.#calls.get(number);
      this.#calls.delete(number);
      if (error === undefined) call?.resolve(value);
      else call?.reject(new Error(error));
    });
  }

  /** Resolves when what a predecessor left is settled. Fails with what the process said when it does not get there. */
  static async open(home: string, settings: Readonly<Record<string, unknown>> = {}): Promise<Room> {
    await assertPrivateNetwork();
    const room = new Room(home, settings);
    const ready = Promise.withResolvers<unknown>();
    room.#calls.set(0, ready);
    await ready.promise.catch((error: unknown) => {
      throw new Error(`the room did not open:\n${room.output()}`, { cause: error });
    });
    return room;
  }

  /** One that dies at a point of what it does by itself, perhaps before it has opened: nothing can be asked of it. */
  static doomed(home: string, settings: Readonly<Record<string, unknown>>, diesAt: string): Room {
    return new Room(home, settings, diesAt);
  }

  get hasOpened(): boolean {
    return this.#hasOpened;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Rejects with {@link RoomDied} when the process dies of it. */
  call<Name extends keyof RoomOperations>(
    name: Name,
    ...args: Parameters<RoomOperations[Name]>
  ): ReturnType<RoomOperations[Name]> {
    const number = ++this.#number;
    const call = Promise.withResolvers<unknown>();
    this.#calls.set(number, call);
    this.#child.send({ number, name, args });
    return call.promise as ReturnType<RoomOperations[Name]>;
  }

  /** Warnings and errors that it logged. */
  output(): string {
    return Buffer.concat(this.#output).toString('utf8');
  }

  /** SIGKILL, nothing cleaned up. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }
}
