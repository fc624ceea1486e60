import assert from 'node:assert/strict';
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, type TestContext, test } from 'node:test';
import type { Image } from './images.ts';
import { openTestStore, type TestStore } from './testing/open-store.ts';
import { sampleElf, sampleExt4 } from './testing/samples.ts';

const kernel = sampleElf();
const rootfs = sampleExt4();

async function openWithImage(t: TestContext): Promise<TestStore & { readonly image: Image; readonly dir: string }> {
  const opened = await openTestStore(t);
  const { id } = await opened.store.create({ name: 'mine', description: '' });
  await opened.store.putKernel(id, Readable.from([kernel]));
  const image = await opened.store.putRootfs(id, Readable.from([rootfs]));
  return { ...opened, image, dir: join(opened.root, 'mine') };
}

describe('opening the store', () => {
  test('sweeps what uploads left', async (t) => {
    const { dir, image, reopen } = await openWithImage(t);
    await writeFile(join(dir, 'rootfs.ext4.0000.tmp'), 'half');
    await writeFile(join(dir, `rootfs.ext4.${'0'.repeat(64)}.ready`), 'unspoken of');
    assert.deepEqual((await reopen()).list(), [image]);
    assert.deepEqual((await readdir(dir)).sort(), ['image.json', 'rootfs.ext4', 'vmlinux']);
  });

  test('finishes an upload that the manifest speaks of', async (t) => {
    const { dir, image, records, reopen } = await openWithImage(t);
    const row = records.rows.get(image.id)!;
    await rename(join(dir, 'rootfs.ext4'), join(dir, `rootfs.ext4.${image.rootfs!.sha256}.ready`));
    await writeFile(join(dir, 'rootfs.ext4'), 'the file before');
    records.rows.set(image.id, { ...row, rootfs: { ...row.rootfs!, sha256: '0'.repeat(64), bytes: 15 } });
    assert.deepEqual((await reopen()).list(), [image]);
    assert.ok((await readFile(join(dir, 'rootfs.ext4'))).equals(rootfs));
    assert.deepEqual(records.rows.get(image.id), row);
  });

  test('finishes a removal', async (t) => {
    const { root, dir, image, records, reopen } = await openWithImage(t);
    await rename(dir, join(root, `.removing-${image.id}`));
    assert.deepEqual((await reopen()).list(), []);
    assert.deepEqual([records.rows.size, await readdir(root)], [0, []]);
  });

  test('speaks no more of a file that is gone or cut off', async (t) => {
    const { dir, image, reopen } = await openWithImage(t);
    await rm(join(dir, 'vmlinux'));
    await writeFile(join(dir, 'rootfs.ext4'), rootfs.subarray(0, 4096));
    const found = (await reopen()).get(image.id);
    assert.deepEqual([found.kernel, found.rootfs], [null, null]);
  });

  test('drops a row without a directory', async (t) => {
    const { dir, records, reopen } = await openWithImage(t);
    await rm(dir, { recursive: true });
    assert.deepEqual((await reopen()).list(), []);
    assert.equal(records.rows.size, 0);
  });

  test('writes a manifest anew', async (t) => {
    const { dir, image, reopen } = await openWithImage(t);
    const before = await readFile(join(dir, 'image.json'), 'utf8');
    await rm(join(dir, 'image.json'));
    assert.deepEqual((await reopen()).list(), [image]);
    assert.equal(await readFile(join(dir, 'image.json'), 'utf8'), before);
  });

  test('takes in a directory copied from elsewhere', async (t) => {
    const { dir, image } = await openWithImage(t);
    const other = await openTestStore(t);
    await cp(dir, join(other.root, 'copied'), { recursive: true });
    const store = await other.reopen();
    assert.deepEqual(store.list(), [image]);
    assert.equal((await store.files(image.id)).kernel, join(other.root, 'copied', 'vmlinux'));
  });

  test('leaves alone a copy of what it has, a damaged copy, and what is not an image', async (t) => {
    const { root, dir, image, reopen } = await openWithImage(t);
    await cp(dir, join(root, 'twin'), { recursive: true });
    await mkdir(join(root, 'notes'));
    await writeFile(join(root, 'notes', 'text'), 'mine');
    await mkdir(join(root, 'empty'));
    await mkdir(join(root, 'begun'));
    await writeFile(join(root, 'begun', 'image.json.0a1b2c3d4e5f.tmp'), '{');
    assert.deepEqual((await reopen()).list(), [image]);
    assert.deepEqual((await readdir(root)).sort(), ['mine', 'notes', 'twin']);
    const other = await openTestStore(t);
    await cp(dir, join(other.root, 'copied'), { recursive: true });
    await writeFile(join(other.root, 'copied', 'rootfs.ext4'), sampleExt4(rootfs.length, { state: 0 }));
    assert.deepEqual((await other.reopen()).list(), []);
  });
});

describe('importCached', () => {
  test('links the files, and does so once', async (t) => {
    const { dir, image } = await openWithImage(t);
    const cached = {
      kernel: join(dir, 'vmlinux'),
      rootfs: join(dir, 'rootfs.ext4'),
      manifest: {
        format: 1 as const,
        name: 'sandbox',
        description: 'from the cache',
        recipe: 'r',
        kernelRelease: '6.1.0',
        kernel: { sha256: image.kernel!.sha256, bytes: kernel.length },
        rootfs: { sha256: image.rootfs!.sha256, bytes: rootfs.length },
        programs: {},
        packages: {},
      },
    };
    const { store, root } = await openTestStore(t);
    const imported = await store.importCached(cached, { default: true });
    assert.deepEqual(
      [imported.name, imported.isDefault, imported.kernel?.sha256, imported.rootfs?.bytes],
      ['sandbox', true, image.kernel!.sha256, rootfs.length],
    );
    assert.deepEqual(await store.importCached(cached), imported);
    assert.ok((await readFile(join(root, 'sandbox', 'rootfs.ext4'))).equals(rootfs));
    assert.deepEqual((await readdir(join(root, 'sandbox'))).sort(), ['image.json', 'rootfs.ext4', 'vmlinux']);
  });
});
