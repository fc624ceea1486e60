import assert from 'node:assert/strict';
import { openAsBlob } from 'node:fs';
import { describe, it } from 'node:test';
import { findBuiltImage } from '../src/image/build.ts';
import type { CachedImage } from '../src/image/cache.ts';
import { createVm, expectStatus, output } from './support/api.ts';
import { startDaemon, type TestDaemon } from './support/daemon.ts';

/** Puts an image into the daemon the way a client does. */
async function upload(daemon: TestDaemon, name: string, { kernel, rootfs }: CachedImage): Promise<string> {
  const { id } = await expectStatus<{ id: string }>(daemon, 201, 'POST', '/v1/images', { name, description: name });
  for (const [part, path] of [
    ['kernel', kernel],
    ['rootfs', rootfs],
  ] as const) {
    const response = await fetch(`${daemon.url}/v1/images/${id}/${part}`, {
      method: 'PUT',
      headers: { 'x-api-key': daemon.apiKey, 'content-type': 'application/octet-stream' },
      body: await openAsBlob(path),
    });
    assert.equal(response.status, 204, await response.text());
  }
  return id;
}

describe('an uploaded image', () => {
  for (const [recipe, hasModules] of [
    ['sandbox', true],
    ['kernel-builtin', false],
  ] as const) {
    it(`boots with ${hasModules ? 'a kernel that has virtio as modules' : 'a kernel that has virtio built in'}`, async () => {
      const image = await findBuiltImage(recipe);
      assert.ok(image, `the image ${recipe} is not built`);
      await using daemon = await startDaemon();
      const imageId = await upload(daemon, `uploaded-${recipe}`, image);
      const vm = await createVm(daemon, { imageId });
      assert.equal((await output(daemon, vm.id, 'uname -r')).trim(), image.manifest.kernelRelease);
      const modules = await output(daemon, vm.id, 'cat /proc/modules 2>/dev/null || true');
      assert.equal(/^virtio_blk /m.test(modules), hasModules);
    });
  }
});
