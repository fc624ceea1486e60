import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import { describe, test } from 'node:test';
import { createGuestClient } from '../guest/client.ts';
import { QemuGuest } from '../guest/testing/qemu-guest.ts';
import { buildImage } from './build.ts';

const minute = 60_000;

/** Both are booted as they come out of the build, with nothing of Berth's inside but the initramfs. */
const images = [
  { name: 'sandbox', kernel: 'virtio as modules', modules: true },
  { name: 'kernel-builtin', kernel: 'virtio built in', modules: false },
] as const;

describe('built images boot', () => {
  for (const { name, kernel, modules } of images) {
    test(`${name}: a kernel with ${kernel}`, { timeout: 45 * minute }, async (t) => {
      const image = await buildImage(name);
      const guest = await QemuGuest.start(image);
      t.after(() => guest.destroy());
      const client = createGuestClient(guest.openChannel);
      t.after(() => client.close());
      assert.equal((await client.ready(2 * minute)).kernel, image.manifest.kernelRelease);
      const exec = client.exec({
        argv: ['sh', '-c', 'id -u; cat /proc/modules | wc -l; cat /sys/block/vda/device/uevent'],
        cwd: '/workspace',
        env: {},
        uid: 1000,
        gid: 1000,
        timeoutMs: minute,
      });
      const [stdout, exit] = await Promise.all([text(exec.stdout), exec.exit]);
      const [uid, loaded, driver] = stdout.split('\n');
      assert.equal(exit.exitCode, 0);
      assert.deepEqual([uid, Number(loaded) > 0, driver], ['1000', modules, 'DRIVER=virtio_blk']);
    });
  }
});
