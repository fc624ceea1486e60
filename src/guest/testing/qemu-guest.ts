/** Boots guest-init in a real QEMU for tests: emulated, without network, on a throw-away disk. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import { runCommand } from '../../common/command.ts';
import { measureTscKhz } from '../../engine/qemu/host-tsc.ts';
import { translatedCpu } from '../../engine/qemu/qemu-args.ts';
import { QmpClient } from '../../engine/qemu/qemu-qmp.ts';
import { ensureGuestInit } from '../build.ts';
import { buildInitramfs } from '../initramfs.ts';

export interface QemuGuestOptions {
  readonly kernel: string;
  /** ext4 image; never written to. */
  readonly rootfs: string;
  /** Virtual size of the disk, e.g. `4G`; the image's own when omitted. */
  readonly diskSize?: string;
  /** More QEMU arguments, such as a network device. */
  readonly extra?: readonly string[];
  /** More of the kernel's command line. */
  readonly append?: string;
  /** Keeps memory in a file, so that `snapshot` is possible. */
  readonly canSnapshot?: boolean;
}

/** A machine at one moment: everything it was, to be gone on from any number of times. */
export interface QemuSnapshot {
  readonly dir: string;
  readonly options: QemuGuestOptions;
  readonly tscKhz: number;
}

/** What is needed to run a machine, beside what its kind has. */
interface Machine {
  readonly options: QemuGuestOptions;
  readonly tscKhz: number;
  readonly dir: string;
  readonly initrd: string;
  readonly disk: string;
  /** Null: private memory. */
  readonly memory: { readonly path: string; readonly share: boolean } | null;
  /** Waits for a machine's state instead of booting. */
  readonly incoming: boolean;
}

export class QemuGuest {
  readonly dir: string;
  readonly #machine: Machine;
  readonly #process: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #channels = new Set<Socket>();

  private constructor(machine: Machine) {
    this.dir = machine.dir;
    this.#machine = machine;
    this.#process = spawn('qemu-system-x86_64', qemuArguments(machine), { stdio: ['ignore', 'ignore', 'inherit'] });
    this.#exited = once(this.#process, 'exit');
  }

  static async start(options: QemuGuestOptions): Promise<QemuGuest> {
    const dir = await mkdtemp(join(tmpdir(), 'berth-guest-'));
    const { path: guestInit } = process.env.GI
      ? { path: process.env.GI }
      : await ensureGuestInit(join(tmpdir(), 'berth-test-cache'));
    const initrd = join(dir, 'initrd');
    await writeFile(initrd, await buildInitramfs({ ...options, guestInit }));
    const disk = join(dir, 'disk.qcow2');
    await makeOverlay(disk, options.rootfs, 'raw', options.diskSize);
    const memory = options.canSnapshot ? { path: join(dir, 'memory'), share: true } : null;
    const tscKhz = await measureTscKhz(dir);
    return new QemuGuest({ options, tscKhz, dir, initrd, disk, memory, incoming: false });
  }

  /** A machine that is at the moment of the snapshot, loaded and paused: `resume` lets it go on. */
  static async restore(snapshot: QemuSnapshot, change: Partial<QemuGuestOptions> = {}): Promise<QemuGuest> {
    const options = { ...snapshot.options, ...change };
    const dir = await mkdtemp(join(tmpdir(), 'berth-guest-'));
    const disk = join(dir, 'disk.qcow2');
    await makeOverlay(disk, join(snapshot.dir, 'disk.qcow2'), 'qcow2', change.diskSize);
    const memory = { path: join(snapshot.dir, 'memory'), share: false };
    const initrd = join(snapshot.dir, 'initrd');
    const guest = new QemuGuest({ options, tscKhz: snapshot.tscKhz, dir, initrd, disk, memory, incoming: true });
    await guest.#monitor(async (qmp) => {
      await leaveMemoryInPlace(qmp);
      // The guest would announce the addresses of the machine that was saved.
      await qmp.execute('migrate-set-parameters', { 'announce-rounds': 0 });
      await qmp.execute('migrate-incoming', { uri: `exec:cat ${join(snapshot.dir, 'state')}` });
      await migrated(qmp);
    });
    return guest;
  }

  static async discard(snapshot: QemuSnapshot): Promise<void> {
    await rm(snapshot.dir, { recursive: true, force: true });
  }

  /** A connection to the guest's channel, as an engine gives it. */
  readonly openChannel = async (): Promise<Duplex> => {
    const socket = createConnection(join(this.dir, 'guest.sock'));
    this.#channels.add(socket);
    socket.on('close', () => this.#channels.delete(socket));
    await once(socket, 'connect');
    return socket;
  };

  /** Breaks the connections to the guest off, as the death of the daemon does. */
  disconnect(): void {
    for (const socket of this.#channels) socket.destroy();
  }

  /** Sends one QMP command. */
  async monitor(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<void> {
    await this.#monitor((qmp) => qmp.execute(command, args));
  }

  /** Stops the machine where it is and ends its process; its files become the snapshot. */
  async snapshot(): Promise<QemuSnapshot> {
    await this.#monitor(async (qmp) => {
      await leaveMemoryInPlace(qmp);
      await qmp.execute('stop');
      await qmp.execute('migrate', { uri: `exec:cat > ${join(this.dir, 'state.part')}` });
      await migrated(qmp);
    });
    await rename(join(this.dir, 'state.part'), join(this.dir, 'state'));
    await this.#end();
    return { dir: this.dir, options: this.#machine.options, tscKhz: this.#machine.tscKhz };
  }

  /** Pulls the plug and switches the machine on again: what was written to its disk is there, this object's end is not. */
  async powerCycle(): Promise<QemuGuest> {
    await this.#end();
    return new QemuGuest(this.#machine);
  }

  async resume(): Promise<void> {
    await this.monitor('cont');
  }

  console(): Promise<string> {
    return readFile(join(this.dir, 'console.log'), 'utf8');
  }

  /** Resolves once QEMU has ended by itself. */
  async exited(): Promise<void> {
    await this.#exited;
  }

  async destroy(): Promise<void> {
    await this.#end();
    await rm(this.dir, { recursive: true, force: true });
  }

  async #end(): Promise<void> {
    this.disconnect();
    this.#process.kill('SIGKILL');
    await this.#exited;
  }

  async #monitor(talk: (qmp: QmpClient) => Promise<unknown>): Promise<void> {
    const path = join(this.dir, 'qmp.sock');
    for (;;) {
      const qmp = new QmpClient(path);
      try {
        await qmp.connected();
      } catch (error) {
        // A process that was just started does not listen yet.
        if (this.#process.exitCode !== null) throw error;
        await sleep(5);
        continue;
      }
      try {
        await qmp.ready(5000);
        await talk(qmp);
        return;
      } finally {
        qmp.close();
      }
    }
  }
}

async function makeOverlay(path: string, base: string, format: string, size: string | undefined): Promise<void> {
  await runCommand('qemu-img', [
    ...['create', '-q', '-f', 'qcow2', '-F', format, '-b', base, path],
    ...(size ? [size] : []),
  ]);
}

async function leaveMemoryInPlace(qmp: QmpClient): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

async function migrated(qmp: QmpClient): Promise<void> {
  for (;;) {
    const { status } = (await qmp.execute('query-migrate')) as { status?: string };
    if (status === 'completed') return;
    if (status === 'failed') throw new Error('the state of the machine was not taken over');
    await sleep(2);
  }
}

function qemuArguments(machine: Machine): string[] {
  const { options, dir, memory } = machine;
  return [
    ...[
      '-machine',
      `microvm,accel=tcg,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on,pcie=off,ioapic2=off${memory ? ',memory-backend=mem' : ''}`,
    ],
    ...['-cpu', translatedCpu, '-m', '512', '-smp', '1'],
    ...(memory
      ? ['-object', `memory-backend-file,id=mem,size=512M,mem-path=${memory.path},share=${memory.share ? 'on' : 'off'}`]
      : []),
    ...['-nodefaults', '-no-user-config', '-nographic', '-no-reboot'],
    ...['-kernel', options.kernel, '-initrd', machine.initrd],
    ...[
      '-append',
      `console=ttyS0 panic=-1 quiet mitigations=off cryptomgr.notests tsc=reliable tsc_early_khz=${machine.tscKhz} ${options.append ?? ''}`,
    ],
    ...['-chardev', `file,id=console,path=${join(dir, 'console.log')}`, '-serial', 'chardev:console'],
    ...['-drive', `id=disk,if=none,format=qcow2,file=${machine.disk}`, '-device', 'virtio-blk-device,drive=disk'],
    ...[
      '-chardev',
      `socket,id=guest,path=${join(dir, 'guest.sock')},server=on,wait=off`,
      '-device',
      'virtio-serial-device',
    ],
    ...['-device', 'virtserialport,chardev=guest,name=org.berth.guest.0', '-device', 'virtio-rng-device'],
    ...['-qmp', `unix:${join(dir, 'qmp.sock')},server=on,wait=off`],
    ...(machine.incoming ? ['-S', '-incoming', 'defer'] : []),
    ...(options.extra ?? []),
  ];
}
