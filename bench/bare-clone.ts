import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { link, mkdir, mkdtemp, open as openFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../src/common/command.ts';
import { createOverlay } from '../src/disk/qcow2.ts';
import { expectState, loadState } from '../src/engine/qemu/incoming.ts';
import { QmpClient } from '../src/engine/qemu/qemu-qmp.ts';
import { createGuestClient } from '../src/guest/client.ts';
import type { GuestClient } from '../src/guest/guest.ts';
import { loadMemory } from '../src/snapshot/memory-file.ts';
import { memoryFiles, readMemoryManifest } from '../src/snapshot/memory-files.ts';
import { bareArgs, kill, open } from './bare-qemu.ts';

/** The state that is restored has a network device with a tap. One clone at a time uses it. */
const tap = 'berthbare';

/** The descriptor under which the process has the state. */
const inheritedState = 3;

export interface BareClone {
  readonly guest: GuestClient;
  /** From just before the disk is made to the guest's first answer. */
  readonly answerMs: number;
  end(): Promise<void>;
}

/**
 * The floor of a start: a template cloned by hand, from the very files the daemon clones it from. A process with the memory
 * mapped, the state, `cont`, one request to the guest; nothing around it.
 */
export class BareCloner {
  readonly #dir: string;
  readonly #template: string;
  readonly #layer: string;
  readonly #diskBytes: number;
  readonly #kernelArgs: readonly string[];
  #count = 0;

  private constructor(dir: string, template: string, layer: string, diskBytes: number, kernelArgs: readonly string[]) {
    this.#dir = dir;
    this.#template = template;
    this.#layer = layer;
    this.#diskBytes = diskBytes;
    this.#kernelArgs = kernelArgs;
  }

  static async prepare(
    template: string,
    { diskMiB, kernelArgs }: { readonly diskMiB: number; readonly kernelArgs: readonly string[] },
  ): Promise<BareCloner> {
    const dir = await mkdtemp('/tmp/berth-bare-');
    await runCommand('ip', ['tuntap', 'add', 'dev', tap, 'mode', 'tap', 'vnet_hdr']);
    const { memory: index } = await readMemoryManifest(template);
    const path = join(dir, 'memory');
    await writeFile(path, '');
    await using memory = await openFile(path, 'r+');
    await memory.truncate(index.memoryMiB * 1024 * 1024);
    await loadMemory(memoryFiles(template).memory, index, memory);
    const [layer] = (await readdir(template)).filter((name) => name.startsWith('layer-'));
    return new BareCloner(dir, template, layer!, diskMiB * 1024 * 1024, kernelArgs);
  }

  /** @param asks what the first request is: a plain hello, or the new identity that makes the copy a machine of its own */
  async clone(asks: 'hello' | 'identity'): Promise<BareClone> {
    const dir = join(this.#dir, String(this.#count++));
    await mkdir(dir);
    const started = performance.now();
    for (const name of ['base.ext4', this.#layer]) await link(join(this.#template, name), join(dir, name));
    const disk = join(dir, 'disk.qcow2');
    await createOverlay({
      path: disk,
      backing: this.#layer,
      backingFormat: 'qcow2',
      sizeBytes: this.#diskBytes,
      uid: null,
    });
    const [socket, qmpSocket] = [join(dir, 'guest.sock'), join(dir, 'qmp.sock')];
    const files = { kernel: join(this.#template, 'vmlinux'), initrd: join(this.#template, 'initrd') };
    const args = bareArgs({
      ...{ dir, disk, socket, monitorSocket: qmpSocket, files, kernelArgs: this.#kernelArgs },
      memoryFile: join(this.#dir, 'memory'),
      tap,
    });
    await using state = await openFile(memoryFiles(this.#template).state, 'r');
    const waiting = [
      '-S',
      '-incoming',
      'defer',
      '-global',
      'migration.send-configuration=off',
      '-global',
      'migration.announce-rounds=0',
    ];
    const child = spawn('qemu-system-x86_64', [...args, ...waiting], {
      stdio: ['ignore', 'ignore', 'inherit', state.fd],
    });
    const guest = createGuestClient(() => open(socket));
    const end = async () => {
      guest.close();
      await kill(child);
      await rm(dir, { recursive: true, force: true });
    };
    try {
      const qmp = await monitorOf(qmpSocket);
      await expectState(qmp);
      await loadState(qmp, inheritedState);
      await qmp.execute('cont');
      await (asks === 'hello' ? guest.ready(60_000) : guest.become(newIdentity(), 60_000));
      qmp.close();
      return { guest, answerMs: performance.now() - started, end };
    } catch (error) {
      await end();
      throw error;
    }
  }

  async remove(): Promise<void> {
    await runCommand('ip', ['link', 'delete', tap]);
    await rm(this.#dir, { recursive: true, force: true });
  }
}

async function monitorOf(path: string): Promise<QmpClient> {
  for (;;) {
    const qmp = new QmpClient(path);
    try {
      await qmp.connected();
      await qmp.ready(10_000);
      return qmp;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** What the daemon tells a clone: addresses of a network that goes nowhere. */
function newIdentity() {
  return {
    hostname: 'clone',
    unixTimeMs: Date.now(),
    entropy: randomBytes(64),
    network: {
      mac: '02:be:00:00:00:01',
      ipv4: '172.16.0.2/24',
      gateway4: '172.16.0.1',
      ipv6: 'fd00:be::2/64',
      gateway6: 'fd00:be::1',
      nameservers: [],
    },
    renew: true,
    diskBytes: null,
  };
}
