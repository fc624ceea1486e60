/** Boots guest-init in a real QEMU for tests: emulated, without network, on a throw-away disk. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

import { runCommand } from '../../common/command.ts';
import { measureTscKhz } from '../../engine/qemu/host-tsc.ts';
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
}

export class QemuGuest {
  readonly dir: string;
  readonly #process: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #channels = new Set<Socket>();

  private constructor(dir: string, process: ChildProcess) {
    this.dir = dir;
    this.#process = process;
    this.#exited = once(process, 'exit');
  }

  static async start(options: QemuGuestOptions): Promise<QemuGuest> {
    const dir = await mkdtemp(join(tmpdir(), 'berth-guest-'));
    const { path: guestInit } = await ensureGuestInit(join(tmpdir(), 'berth-test-cache'));
    await writeFile(join(dir, 'initrd'), await buildInitramfs({ ...options, guestInit }));
    const disk = join(dir, 'disk.qcow2');
    const size = options.diskSize ? [options.diskSize] : [];
    await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', options.rootfs, disk, ...size]);
    const process = spawn('qemu-system-x86_64', qemuArguments(options, dir, disk, await measureTscKhz(dir)), {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    return new QemuGuest(dir, process);
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
  async monitor(command: string): Promise<void> {
    const socket = createConnection(join(this.dir, 'qmp.sock'));
    await once(socket, 'connect');
    socket.write(`{"execute":"qmp_capabilities"}\n{"execute":"${command}"}\n`);
    await once(socket, 'data');
    socket.end();
  }

  console(): Promise<string> {
    return readFile(join(this.dir, 'console.log'), 'utf8');
  }

  /** Resolves once QEMU has ended by itself. */
  async exited(): Promise<void> {
    await this.#exited;
  }

  async destroy(): Promise<void> {
    this.disconnect();
    this.#process.kill('SIGKILL');
    await this.#exited;
    await rm(this.dir, { recursive: true, force: true });
  }
}

function qemuArguments(options: QemuGuestOptions, dir: string, disk: string, tscKhz: number): string[] {
  return [
    ...[
      '-machine',
      'microvm,accel=tcg,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on,pcie=off,ioapic2=off',
      '-cpu',
      'max',
      '-m',
      '512',
      '-smp',
      '1',
    ],
    ...['-nodefaults', '-no-user-config', '-nographic', '-no-reboot'],
    ...['-kernel', options.kernel, '-initrd', join(dir, 'initrd')],
    ...['-append', `console=ttyS0 panic=-1 quiet cryptomgr.notests tsc=reliable tsc_early_khz=${tscKhz}`],
    ...['-chardev', `file,id=console,path=${join(dir, 'console.log')}`, '-serial', 'chardev:console'],
    ...['-drive', `id=disk,if=none,format=qcow2,file=${disk}`, '-device', 'virtio-blk-device,drive=disk'],
    ...[
      '-chardev',
      `socket,id=guest,path=${join(dir, 'guest.sock')},server=on,wait=off`,
      '-device',
      'virtio-serial-device',
    ],
    ...['-device', 'virtserialport,chardev=guest,name=org.berth.guest.0', '-device', 'virtio-rng-device'],
    ...['-qmp', `unix:${join(dir, 'qmp.sock')},server=on,wait=off`],
    ...(options.extra ?? []),
  ];
}
