import { join } from 'node:path';
import type { ImageFiles } from '../src/image/images.ts';
import type { TestDaemon } from '../test/support/daemon.ts';

/** Runs a command in a VM through the HTTP API. */
export async function run(
  daemon: TestDaemon,
  id: string,
  cmd: string,
): Promise<{ readonly stdout: string; readonly guestMs: number }> {
  const response = await daemon.call('POST', `/v1/vms/${id}/exec`, { cmd });
  if (response.status !== 200) throw new Error(`exec: ${response.status} ${await response.text()}`);
  const guestMs = Number(/guest;dur=([\d.]+)/.exec(response.headers.get('server-timing') ?? '')?.[1]);
  return { stdout: ((await response.json()) as { stdout: string }).stdout, guestMs };
}

/** The kernel's arguments that a VM was booted with. */
export async function guestKernelArgs(daemon: TestDaemon, id: string): Promise<readonly string[]> {
  return (await run(daemon, id, 'cat /proc/cmdline')).stdout.trim().split(' ');
}

/** The files of the image that VMs are made from unless they ask for another. */
export function imageFiles({ home }: Pick<TestDaemon, 'home'>): ImageFiles {
  const image = join(home, 'images', 'sandbox');
  return { kernel: join(image, 'vmlinux'), initrd: join(image, 'initrd'), rootfs: join(image, 'rootfs.ext4') };
}
