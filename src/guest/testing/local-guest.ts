/** guest-init as an ordinary process of the host, serving on a socket: quick, for what needs no machine of its own. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { after, before } from 'node:test';

import { ensureGuestInit } from '../build.ts';
import { createGuestClient } from '../client.ts';
import type { GuestClient } from '../guest.ts';

export class LocalGuest {
  readonly #process: ChildProcess;
  /** The one byte stream there is. */
  readonly raw: Duplex;

  private constructor(process: ChildProcess) {
    this.#process = process;
    this.raw = process.stdio[3] as Duplex;
  }

  static async start(): Promise<LocalGuest> {
    const { path } = await ensureGuestInit(join(tmpdir(), 'berth-test-cache'));
    return new LocalGuest(spawn(path, ['--serve-fd', '3'], { stdio: ['ignore', 'ignore', 'inherit', 'pipe'] }));
  }

  readonly openChannel = async (): Promise<Duplex> => this.raw;

  async destroy(): Promise<void> {
    const exited = this.#process.exitCode === null ? once(this.#process, 'exit') : null;
    this.raw.destroy();
    this.#process.kill();
    await exited;
  }
}

interface GuestAtHand {
  readonly guest: LocalGuest;
  readonly client: GuestClient;
  /** A directory that every user may read. */
  readonly root: string;
}

/** Has a guest there for all tests of the file; `take` is given it before the first. */
export function withLocalGuest(take: (atHand: GuestAtHand) => void): void {
  let atHand: GuestAtHand;
  before(async () => {
    const guest = await LocalGuest.start();
    const root = await mkdtemp(join(tmpdir(), 'berth-files-'));
    await chmod(root, 0o755);
    atHand = { guest, client: createGuestClient(guest.openChannel), root };
    take(atHand);
  });
  after(async () => {
    atHand.client.close();
    await atHand.guest.destroy();
    await rm(atHand.root, { recursive: true, force: true });
  });
}
