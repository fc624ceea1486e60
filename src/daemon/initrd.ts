import { writeFile } from 'node:fs/promises';
import { ensureGuestInit } from '../guest/build.ts';
import { buildInitramfs, initramfsBuilder } from '../guest/initramfs.ts';
import type { MakeInitrd } from '../image/initrds.ts';

/** Makes initramfs files of this build's guest-init, which is compiled into the cache when it is not there. */
export function initrdMaker(cacheDir: string): MakeInitrd {
  return async ({ kernel, rootfs }) => {
    const guestInit = await ensureGuestInit(cacheDir);
    return {
      key: `${guestInit.sha256} ${await initramfsBuilder()}`,
      write: async (path) => {
        const initramfs = await buildInitramfs({ guestInit: guestInit.path, kernel: kernel.path, rootfs: rootfs.path });
        await writeFile(path, initramfs, { flag: 'wx' });
      },
    };
  };
}
