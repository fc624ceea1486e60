/** guest-init as an ordinary process of the host, serving on a socket: quick, for what needs no machine of its own. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

import { ensureGuestInit } from '../build.ts';

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
