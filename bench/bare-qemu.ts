import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { link, mkdtemp, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { createOverlay } from '../src/disk/qcow2.ts';
import { machineOptions, translatedCpu } from '../src/engine/qemu/qemu-args.ts';
import { QmpClient } from '../src/engine/qemu/qemu-qmp.ts';
import { createGuestClient } from '../src/guest/client.ts';
import type { GuestClient } from '../src/guest/guest.ts';
import type { ImageFiles } from '../src/image/images.ts';
import { smallVm } from '../test/support/api.ts';

export interface BareVm {
  readonly guest: GuestClient;
  /** From just before QEMU is started, its disk ready, to the guest's first reply. */
  readonly firstReplyMs: number;
  /** Runs a command of its monitor. */
  control(command: 'stop' | 'cont'): Promise<void>;
  end(): Promise<void>;
}

/**
 * The floor: QEMU started by hand with the same machine, kernel, initramfs and disk as the daemon gives a VM, and nothing
 * around it: no other user, no sandbox, no control group, no tap, no log process.
 */
export async function startBareVm(files: ImageFiles, kernelArgs: readonly string[]): Promise<BareVm> {
  const dir = await mkdtemp('/tmp/berth-bare-');
  const disk = join(dir, 'disk.qcow2');
  await link(files.rootfs, join(dir, 'base.ext4'));
  const { size: sizeBytes } = await stat(files.rootfs);
  await createOverlay({ path: disk, backing: 'base.ext4', backingFormat: 'raw', sizeBytes, uid: null });
  const socket = join(dir, 'guest.sock');
  const monitorSocket = join(dir, 'qmp.sock');
  const started = performance.now();
  const child = spawn('qemu-system-x86_64', bareArgs({ dir, disk, socket, monitorSocket, files, kernelArgs }), {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const guest = createGuestClient(() => open(socket));
  let monitor: QmpClient | null = null;
  const control = async (command: string) => {
    monitor ??= new QmpClient(monitorSocket);
    await monitor.ready(5000);
    await monitor.execute(command);
  };
  const end = async () => {
    guest.close();
    monitor?.close();
    await kill(child);
    await rm(dir, { recursive: true, force: true });
  };
  try {
    await guest.ready(120_000);
    return { guest, firstReplyMs: performance.now() - started, control, end };
  } catch (error) {
    await end();
    throw error;
  }
}

export interface BareArgs {
  readonly dir: string;
  readonly disk: string;
  /** Of the guest's channel. */
  readonly socket: string;
  readonly monitorSocket: string;
  readonly files: Pick<ImageFiles, 'kernel' | 'initrd'>;
  readonly kernelArgs: readonly string[];
  /** A file to map as the guest's memory, privately; a boot has memory of its own. */
  readonly memoryFile?: string;
  /** A tap device that is there; user-mode networking when omitted. */
  readonly tap?: string;
}

/** QEMU's arguments for a machine as the daemon makes them. */
export function bareArgs({ dir, disk, socket, monitorSocket, files, kernelArgs, memoryFile, tap }: BareArgs): string[] {
  const size = `${smallVm.memMb}M`;
  const memory =
    memoryFile === undefined
      ? `memory-backend-ram,id=mem,size=${size}`
      : `memory-backend-file,id=mem,size=${size},mem-path=${memoryFile},share=off`;
  return [
    ...['-no-user-config', '-nodefaults', '-nographic'],
    '-machine',
    machineOptions('microvm'),
    ...['-accel', 'tcg,thread=multi,tb-size=128', '-cpu', translatedCpu, '-smp', '1', '-m', size],
    ...['-object', memory],
    ...['-kernel', files.kernel, '-initrd', files.initrd, '-append', kernelArgs.join(' ')],
    ...['-chardev', `socket,id=qmp,path=${monitorSocket},server=on,wait=off`, '-mon', 'chardev=qmp,mode=control'],
    ...['-serial', `file:${join(dir, 'console.log')}`],
    ...['-object', 'rng-builtin,id=rng', '-device', 'virtio-rng-device,rng=rng'],
    ...['-device', 'virtio-balloon-device,id=balloon,deflate-on-oom=on'],
    ...['-device', 'virtio-serial-device,id=serial,max_ports=2'],
    ...['-chardev', `socket,id=guest,path=${socket},server=on,wait=off`],
    ...['-device', 'virtserialport,bus=serial.0,nr=1,chardev=guest,name=org.berth.guest.0'],
    ...['-blockdev', `qcow2,node-name=root,file.driver=file,file.filename=${disk},discard=unmap`],
    ...['-device', 'virtio-blk-device,id=disk-root,drive=root'],
    ...['-netdev', tap === undefined ? 'user,id=net,restrict=on' : `tap,id=net,ifname=${tap},script=no,downscript=no`],
    ...['-device', 'virtio-net-device,id=nic,netdev=net'],
  ];
}

export function open(path: string): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
  const socket = connect(path);
  socket.once('connect', () => resolve(socket));
  socket.once('error', reject);
  return promise;
}

export async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
