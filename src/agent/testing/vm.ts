import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pack } from 'tar-stream';
import { bundleAgent } from '../../../scripts/bundle-agent.mjs';
import { SimulatedPlatform } from '../../attest/simulated/platform.ts';
import { createGuestClient } from '../../guest/client.ts';
import type { GuestClient } from '../../guest/guest.ts';
import { QemuGuest } from '../../guest/testing/qemu-guest.ts';
import { buildImage } from '../../image/build.ts';
import { agentFiles } from './agent-files.ts';

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

/** A VM of the sandbox image with the agent's files in /dstack; the agent does not run yet. */
export class AgentVm {
  readonly guest: GuestClient;
  /** Whom a verifier of its quotes has to trust. */
  readonly platform: SimulatedPlatform;
  readonly #machine: QemuGuest;
  readonly #scratch: string;

  private constructor(machine: QemuGuest, guest: GuestClient, platform: SimulatedPlatform, scratch: string) {
    this.#machine = machine;
    this.guest = guest;
    this.platform = platform;
    this.#scratch = scratch;
  }

  /** @param compose text of app-compose.json */
  static async boot(compose: string): Promise<AgentVm> {
    const scratch = await mkdtemp(join(tmpdir(), 'berth-agent-vm-'));
    const bundle = join(scratch, 'agent.cjs');
    const { BERTH_TEST_KERNEL: kernel, BERTH_TEST_ROOTFS: rootfs } = process.env;
    const [image, platform] = await Promise.all([
      kernel && rootfs ? { kernel, rootfs } : buildImage('sandbox'),
      SimulatedPlatform.open(scratch),
      bundleAgent(bundle),
    ]);
    const machine = await QemuGuest.start({ kernel: image.kernel, rootfs: image.rootfs, diskSize: '5G' });
    const vm = new AgentVm(machine, createGuestClient(machine.openChannel), platform, scratch);
    try {
      await vm.guest.ready(bootMs);
      await vm.guest.configure({
        hostname: 'agent',
        unixTimeMs: Date.now(),
        entropy: randomBytes(64),
        network: null,
      });
      await vm.run('ip link set lo up');
      await vm.#install(bundle, compose);
      return vm;
    } catch (error) {
      await vm[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #install(bundle: string, compose: string): Promise<void> {
    await this.upload(directory, {
      'agent.cjs': await readFile(bundle),
      'tee/simulated-tee.json': await readFile(join(this.#scratch, 'simulated-tee.json')),
      ...agentFiles({ compose }),
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

  /** Starts the agent and waits until it listens. */
  startAgent(): Promise<VmProgram> {
    return this.start(['node', `${directory}/agent.cjs`, `${directory}/agent.json`]);
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
