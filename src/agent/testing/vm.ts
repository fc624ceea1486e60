import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { bundleAgent } from '../../../scripts/bundle-agent.mjs';
import { SimulatedPlatform } from '../../attest/simulated/platform.ts';
import { createGuestClient } from '../../guest/client.ts';
import type { GuestClient, GuestConnectTarget, GuestNetworkConfig } from '../../guest/guest.ts';
import { QemuGuest, type QemuGuestOptions } from '../../guest/testing/qemu-guest.ts';
import { buildImage } from '../../image/build.ts';
import { type AgentFilesOptions, agentFiles } from './agent-files.ts';

const bootMs = 120_000;
const directory = '/dstack';
const path = '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin';

/** What a command in the VM did. */
export interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A program in the VM that goes on running. */
export interface VmProgram {
  /** Ends it at once, as a crash would; resolves when it is gone. */
  kill(): Promise<void>;
}

export interface AgentVmOptions {
  /** What the machine has besides. */
  readonly machine?: Pick<QemuGuestOptions, 'extra' | 'append'>;
  readonly network?: GuestNetworkConfig;
}

/** A VM of the sandbox image with the agent's files in /dstack; the agent does not run yet. */
export class AgentVm {
  /** Whom a verifier of its quotes has to trust. */
  readonly platform: SimulatedPlatform;
  readonly #network: GuestNetworkConfig | null;
  readonly #scratch: string;
  #machine: QemuGuest;
  #guest: GuestClient;

  private constructor(
    machine: QemuGuest,
    platform: SimulatedPlatform,
    network: GuestNetworkConfig | null,
    scratch: string,
  ) {
    this.#machine = machine;
    this.#guest = createGuestClient(machine.openChannel);
    this.platform = platform;
    this.#network = network;
    this.#scratch = scratch;
  }

  /** Of the boot that runs. */
  get guest(): GuestClient {
    return this.#guest;
  }

  /** @param compose text of app-compose.json */
  static async boot(compose: string, { machine: more = {}, network }: AgentVmOptions = {}): Promise<AgentVm> {
    const scratch = await mkdtemp(join(tmpdir(), 'berth-agent-vm-'));
    const bundle = join(scratch, 'agent.cjs');
    const { BERTH_TEST_KERNEL: kernel, BERTH_TEST_ROOTFS: rootfs } = process.env;
    const [image, platform] = await Promise.all([
      kernel && rootfs ? { kernel, rootfs } : buildImage('sandbox'),
      SimulatedPlatform.open(scratch),
      bundleAgent(bundle),
    ]);
    const machine = await QemuGuest.start({
      kernel: image.kernel,
      rootfs: image.rootfs,
      diskSize: '5G',
      ...more,
    });
    const vm = new AgentVm(machine, platform, network ?? null, scratch);
    try {
      await vm.#up();
      await vm.upload(directory, { 'agent.cjs': await readFile(bundle) });
      await vm.install(directory, { compose });
      return vm;
    } catch (error) {
      await vm[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #up(): Promise<void> {
    await this.guest.ready(bootMs);
    await this.guest.configure({
      hostname: 'agent',
      unixTimeMs: Date.now(),
      entropy: randomBytes(64),
      network: this.#network,
    });
    await this.run('ip link set lo up');
  }

  /** Switches the VM off and on: what is on its disk stays. */
  async reboot(): Promise<void> {
    await this.run('sync');
    this.#guest.close();
    this.#machine = await this.#machine.powerCycle();
    this.#guest = createGuestClient(this.#machine.openChannel);
    await this.#up();
  }

  /** Puts what a host gives an app into a directory, for an agent with a simulated TEE unless the configuration names another. */
  async install(into: string, files: AgentFilesOptions): Promise<void> {
    await this.upload(into, {
      'tee/simulated-tee.json': await readFile(join(this.#scratch, 'simulated-tee.json')),
      ...agentFiles(files),
    });
  }

  /** Writes files, by name below a directory. */
  async upload(into: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<void> {
    const archive = pack();
    for (const [name, content] of Object.entries(files)) archive.entry({ name }, Buffer.from(content as string));
    archive.finalize();
    await this.guest.uploadTar(into, Readable.from(archive), { uid: 0, gid: 0, root: '/' });
  }

  /** Runs a shell script as root; throws when it fails. */
  async run(script: string, timeoutMs = 60_000): Promise<string> {
    const { exitCode, stdout, stderr } = await this.try(script, timeoutMs);
    if (exitCode !== 0) throw new Error(`${script} failed (${exitCode}): ${stdout}${stderr}`);
    return stdout;
  }

  async try(script: string, timeoutMs = 60_000): Promise<Outcome> {
    const argv = ['/bin/sh', '-c', script] as const;
    const exec = this.guest.exec({ argv, cwd: '/', env: { PATH: path }, uid: 0, gid: 0, timeoutMs });
    const [stdout, stderr, { exitCode }] = await Promise.all([text(exec.stdout), text(exec.stderr), exec.exit]);
    return { exitCode, stdout, stderr };
  }

  /**
   * Starts the agent and waits until it listens.
   * @param files directory of agent.json
   */
  startAgent(files = directory): Promise<VmProgram> {
    return this.start(['node', `${directory}/agent.cjs`, `${files}/agent.json`]);
  }

  /** The body of a reply to a GET, or to a POST of JSON. Throws unless the status is 200. */
  async fetch(target: GuestConnectTarget, path: string, body?: object): Promise<string> {
    const stream = await this.guest.connect(target);
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const options = {
      path,
      host: 'vm',
      method: body === undefined ? 'GET' : 'POST',
      headers: { 'content-type': 'application/json' },
      createConnection: () => stream as never,
    };
    const sent = request(options, (reply) => {
      const content = text(reply);
      if (reply.statusCode === 200) resolve(content);
      else content.then((said) => reject(new Error(`${path}: ${reply.statusCode} ${said}`)), reject);
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
    return promise.finally(() => stream.destroy());
  }

  /** Starts a program as root and waits for its first line of output. Throws with what it said when it ends before. */
  async start(argv: readonly [string, ...string[]]): Promise<VmProgram> {
    // Code that was compiled once is kept, as on the disk of an app VM.
    const exec = this.guest.exec({
      argv,
      cwd: directory,
      env: { PATH: path, NODE_COMPILE_CACHE: '/var/cache/dstack-agent' },
      uid: 0,
      gid: 0,
      timeoutMs: null,
    });
    const stderr = text(exec.stderr);
    let line = '';
    for await (const chunk of exec.stdout.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      line += chunk.toString();
      if (line.includes('\n')) break;
    }
    if (!line.includes('\n')) throw new Error(`${argv.join(' ')}: ${line}${await stderr}`);
    exec.stdout.resume();
    return {
      kill: async () => {
        exec.kill();
        await exec.exit;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.guest.close();
    await this.#machine.destroy();
    await rm(this.#scratch, { recursive: true, force: true });
  }
}
