import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runCommand } from '../../common/command.ts';
import { unixFetch } from './unix-fetch.ts';

const image = 'tiny';

/** A Docker engine in a directory of its own, without networks, with an image that is busybox alone. */
export class Dockerd implements AsyncDisposable {
  readonly socket: string;
  readonly #directory: string;
  readonly #process: ChildProcess;

  private constructor(directory: string, process: ChildProcess) {
    this.socket = join(directory, 'docker.sock');
    this.#directory = directory;
    this.#process = process;
  }

  static async start(): Promise<Dockerd> {
    const directory = await mkdtemp(join(tmpdir(), 'berth-docker-'));
    const at = (name: string) => join(directory, name);
    const state = ['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')];
    const network = ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false'];
    const child = spawn(
      'dockerd',
      [...state, ...network, '--host', `unix://${at('docker.sock')}`, '--storage-driver=vfs', '--log-level=error'],
      { stdio: 'ignore' },
    );
    const dockerd = new Dockerd(directory, child);
    try {
      await dockerd.#ready();
      await dockerd.#import();
      return dockerd;
    } catch (error) {
      await dockerd[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #ready(): Promise<void> {
    while (this.#process.exitCode === null) {
      const reply = await unixFetch(this.socket, '/_ping').catch(() => null);
      if (reply?.status === 200) return;
      await sleep(50);
    }
    throw new Error(`dockerd ended (${this.#process.exitCode})`);
  }

  async #import(): Promise<void> {
    const root = join(this.#directory, 'root');
    await mkdir(join(root, 'bin'), { recursive: true });
    await copyFile('/bin/busybox', join(root, 'bin', 'busybox'));
    for (const name of ['sh', 'sleep']) await symlink('busybox', join(root, 'bin', name));
    const archive = join(this.#directory, 'root.tar');
    await runCommand('tar', ['-C', root, '-cf', archive, '.']);
    await this.docker('import', archive, image);
  }

  async docker(...args: readonly string[]): Promise<string> {
    const { stdout } = await runCommand('docker', ['--host', `unix://${this.socket}`, ...args]);
    return stdout;
  }

  /** Starts a shell script as a container and returns its id. */
  async run(name: string, script: string, ...options: readonly string[]): Promise<string> {
    const start = ['run', '--detach', '--network=none', '--name', name, ...options, image, 'sh', '-c', script];
    return (await this.docker(...start)).trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit');
    const containers = await this.docker('ps', '--all', '--quiet').catch(() => '');
    const ids = containers.split('\n').filter((id) => id !== '');
    if (ids.length > 0) await this.docker('rm', '--force', ...ids);
    if (this.#process.exitCode === null) {
      this.#process.kill('SIGTERM');
      await ended;
    }
    await rm(this.#directory, { recursive: true, force: true });
  }
}
