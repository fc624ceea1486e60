import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { runHostTool } from '../host-tool.ts';
import { runIpBatch } from '../ip-link.ts';
import type { VmNetwork } from '../network.ts';
import type { Operations } from './worker.ts';

const worker = new URL('./worker.ts', import.meta.url).pathname;

interface Response {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** A network namespace with a worker process in it. */
export class Namespace {
  readonly name: string;
  #process: ChildProcess | null = null;
  #lastId = 0;

  private constructor(name: string) {
    this.name = name;
  }

  static async create(name: string): Promise<Namespace> {
    await runIpBatch([`netns add ${name}`]);
    const namespace = new Namespace(name);
    await namespace.ip('link set lo up');
    return namespace;
  }

  /** Runs `ip` commands in the namespace. */
  async ip(...lines: readonly string[]): Promise<void> {
    await runHostTool('ip', ['-n', this.name, '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  async run(command: string, ...args: readonly string[]): Promise<string> {
    return (await runHostTool('ip', ['netns', 'exec', this.name, command, ...args])).stdout;
  }

  async do<K extends keyof Operations>(
    operation: K,
    ...args: Parameters<Operations[K]>
  ): Promise<Awaited<ReturnType<Operations[K]>>> {
    this.#process ??= this.#spawn();
    const child = this.#process;
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const onMessage = (response: Response): void => {
      if (response.id !== id) return;
      if (response.error === undefined) resolve(response.result);
      else reject(new Error(response.error));
    };
    const onExit = (): void => reject(new Error(`the worker in ${this.name} ended`));
    child.on('message', onMessage).on('exit', onExit);
    child.send({ id, operation, args });
    try {
      return (await promise) as Awaited<ReturnType<Operations[K]>>;
    } finally {
      child.off('message', onMessage).off('exit', onExit);
    }
  }

  /** Ends the worker without giving it a chance to tidy up; the next operation gets a new one. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  async remove(): Promise<void> {
    await this.kill();
    await runIpBatch([`netns del ${this.name}`]);
  }

  #spawn(): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.name, process.execPath, worker], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    child.setMaxListeners(100);
    return child;
  }
}

export interface Gateways {
  readonly gateway4: string;
  readonly gateway6: string;
}

/** Gives a guest namespace an interface whose other end stands in `host` under the name of the VM's tap. */
export async function plugGuest(guest: Namespace, host: Namespace, vm: VmNetwork, gateways: Gateways): Promise<void> {
  await guest.ip(`link add eth0 type veth peer name ${vm.tap} netns ${host.name}`);
  await configureGuest(guest, vm, gateways);
}

/** Sets the guest up as the VM, whatever it was before. */
export async function configureGuest(guest: Namespace, vm: VmNetwork, gateways: Gateways): Promise<void> {
  await guest.ip(
    'link set eth0 down',
    'addr flush dev eth0',
    'neigh flush dev eth0',
    `link set eth0 address ${vm.mac}`,
    'link set eth0 up',
    `addr add ${vm.ipv4}/24 dev eth0`,
    `route add default via ${gateways.gateway4}`,
    `addr add ${vm.ipv6}/64 dev eth0 nodad`,
    `route add ::/0 via ${gateways.gateway6}`,
  );
}
