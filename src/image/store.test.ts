import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { link, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { describe, test } from 'node:test';
import { openTestStore } from './testing/open-store.ts';
import { pack, sampleBzImage, sampleElf, sampleExt4 } from './testing/samples.ts';

const named = { name: 'mine', description: 'a test' };
const kernel = sampleElf();
const rootfs = sampleExt4();
const kernelSha256 = sha256(kernel);
const rootfsSha256 = sha256(rootfs);

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

/** A body of several chunks. */
function body(data: Buffer): Readable {
  const chunks = [];
  for (let at = 0; at < data.length; at += 1000) chunks.push(data.subarray(at, at + 1000));
  return Readable.from(chunks);
}

describe('create, find, default', () => {
  test('an image starts empty, under its own name', async (t) => {
    const { store, root } = await openTestStore(t);
    const image = await store.create(named);
    assert.match(image.id, /^img-[0-9a-f-]{36}$/);
    assert.deepEqual(
      { ...image, id: '', createdAt: '' },
      { ...named, id: '', createdAt: '', kernel: null, rootfs: null, isDefault: false },
    );
    assert.deepEqual(await readdir(join(root, 'mine')), ['image.json']);
    await assert.rejects(store.files(image.id), { code: 'image_incomplete' });
  });

  const odd: readonly string[] = ['../mine', 'Mine Own', '.removing-x', '', 'x'.repeat(100)];
  for (const name of odd) {
    test(`the directory of "${name.slice(0, 20)}" is its id`, async (t) => {
      const { store, root } = await openTestStore(t);
      const { id } = await store.create({ ...named, name });
      assert.deepEqual(await readdir(root), [id]);
    });
  }

  test('an image is found by id, and by name while the name is its alone', async (t) => {
    const { store } = await openTestStore(t);
    const first = await store.create(named);
    assert.equal(store.find('mine')?.id, first.id);
    const second = await store.create(named);
    assert.equal(store.find('mine'), null);
    assert.equal(store.find(second.id)?.id, second.id);
    assert.deepEqual(
      store.list().map(({ id }) => id),
      [first.id, second.id],
    );
    assert.throws(() => store.get('img-none'), { code: 'image_not_found' });
  });

  test('the default is remembered', async (t) => {
    const { store, reopen } = await openTestStore(t);
    const { id } = await store.create(named);
    assert.equal(store.default(), null);
    assert.equal((await store.setDefault(id)).isDefault, true);
    assert.equal((await reopen()).default()?.id, id);
    await assert.rejects(store.setDefault('img-none'), { code: 'image_not_found' });
  });
});

describe('uploads', () => {
  test('a kernel and a root file system make an image whole', async (t) => {
    const { store, root, reopen } = await openTestStore(t);
    const { id } = await store.create(named);
    assert.equal((await store.putKernel(id, body(kernel))).kernel?.sha256, kernelSha256);
    const image = await store.putRootfs(id, body(rootfs));
    assert.deepEqual([image.rootfs?.sha256, image.rootfs?.bytes], [rootfsSha256, rootfs.length]);
    assert.ok((await readFile(join(root, 'mine', 'vmlinux'))).equals(kernel));
    assert.ok((await readFile(join(root, 'mine', 'rootfs.ext4'))).equals(rootfs));
    assert.deepEqual((await reopen()).get(id), image);
  });

  test('zeros take no room', async (t) => {
    const { store, root } = await openTestStore(t);
    const { id } = await store.create(named);
    const large = sampleExt4(4 * 1024 * 1024);
    await store.putRootfs(id, Readable.from([large.subarray(0, 65536), large.subarray(65536)]));
    const file = await stat(join(root, 'mine', 'rootfs.ext4'));
    assert.equal(file.size, large.length);
    assert.ok(file.blocks * 512 <= 65536, `${file.blocks} blocks`);
  });

  test('a bzImage is kept unpacked', async (t) => {
    const { store, root } = await openTestStore(t);
    const { id } = await store.create(named);
    const image = await store.putKernel(id, body(sampleBzImage(pack('zstd', kernel))));
    assert.equal(image.kernel?.sha256, kernelSha256);
    assert.ok((await readFile(join(root, 'mine', 'vmlinux'))).equals(kernel));
  });

  test('a bzImage that cannot be looked into is kept as it is', async (t) => {
    const { store, root } = await openTestStore(t);
    const { id } = await store.create(named);
    const packed = sampleBzImage(Buffer.alloc(64, 1));
    assert.equal((await store.putKernel(id, body(packed))).kernel?.sha256, sha256(packed));
    assert.deepEqual((await readdir(join(root, 'mine'))).sort(), ['image.json', 'vmlinux']);
  });

  const refused: readonly (readonly [string, 'putKernel' | 'putRootfs', () => Readable, string])[] = [
    ['a kernel that is none', 'putKernel', () => body(rootfs), 'image_invalid'],
    [
      'a kernel with a damaged payload',
      'putKernel',
      () => body(sampleBzImage(pack('gzip', Buffer.alloc(99)))),
      'image_invalid',
    ],
    ['a root file system that is none', 'putRootfs', () => body(kernel), 'image_invalid'],
    ['a truncated root file system', 'putRootfs', () => body(rootfs.subarray(0, -1)), 'image_invalid'],
    ['an empty body', 'putRootfs', () => body(Buffer.alloc(0)), 'image_invalid'],
    ['more than the limit', 'putRootfs', () => body(sampleExt4(256 * 1024)), 'payload_too_large'],
    ['a body that breaks off', 'putRootfs', () => brokenBody(rootfs), 'invalid_argument'],
  ];
  for (const [name, method, makeBody, code] of refused) {
    test(`refuses ${name} and keeps what was there`, async (t) => {
      const { store, root } = await openTestStore(t, { maxFileBytes: 128 * 1024 });
      const { id } = await store.create(named);
      await store.putKernel(id, body(kernel));
      const before = await store.putRootfs(id, body(rootfs));
      await assert.rejects(store[method](id, makeBody()), { code });
      assert.deepEqual(store.get(id), before);
      assert.deepEqual((await readdir(join(root, 'mine'))).sort(), ['image.json', 'rootfs.ext4', 'vmlinux']);
      assert.ok((await readFile(join(root, 'mine', 'rootfs.ext4'))).equals(rootfs));
    });
  }

  test('refuses to fill the disk', async (t) => {
    const { store, root } = await openTestStore(t, { reserveBytes: Number.MAX_SAFE_INTEGER });
    const { id } = await store.create(named);
    await assert.rejects(store.putKernel(id, body(kernel)), { code: 'insufficient_storage' });
    assert.deepEqual(await readdir(join(root, 'mine')), ['image.json']);
  });

  test('the last of two uploads to be complete wins, whichever began first', async (t) => {
    const { store, root } = await openTestStore(t);
    const { id } = await store.create(named);
    const other = sampleExt4(128 * 1024);
    const slow = new PassThrough();
    slow.write(rootfs.subarray(0, 30_000));
    const first = store.putRootfs(id, slow);
    await store.putRootfs(id, body(other));
    assert.equal(store.get(id).rootfs?.sha256, sha256(other));
    slow.end(rootfs.subarray(30_000));
    await first;
    assert.equal(store.get(id).rootfs?.sha256, rootfsSha256);
    assert.ok((await readFile(join(root, 'mine', 'rootfs.ext4'))).equals(rootfs));
  });

  test('uploads at once leave one of them, whole', async (t) => {
    const { store, root } = await openTestStore(t);
    const { id } = await store.create(named);
    const sizes = [1, 2, 3, 4, 5].map((factor) => sampleExt4(factor * 65536));
    await Promise.all(sizes.map((each) => store.putRootfs(id, body(each))));
    assert.equal(store.get(id).rootfs?.sha256, sha256(await readFile(join(root, 'mine', 'rootfs.ext4'))));
    assert.deepEqual((await readdir(join(root, 'mine'))).sort(), ['image.json', 'rootfs.ext4']);
  });

  test('a file in use by a hard link never changes', async (t) => {
    const { store, root } = await openTestStore(t);
    const { id } = await store.create(named);
    await store.putRootfs(id, body(rootfs));
    await link(join(root, 'mine', 'rootfs.ext4'), join(root, 'linked'));
    await store.putRootfs(id, body(sampleExt4(128 * 1024)));
    assert.ok((await readFile(join(root, 'linked'))).equals(rootfs));
  });

  test('an image removed under an upload stays removed', async (t) => {
    const { store, root } = await openTestStore(t);
    const { id } = await store.create(named);
    const slow = new PassThrough();
    slow.write(rootfs.subarray(0, 30_000));
    const refused = assert.rejects(store.putRootfs(id, slow), { code: 'image_not_found' });
    await store.remove(id);
    slow.end(rootfs.subarray(30_000));
    await refused;
    assert.deepEqual(await readdir(root), []);
  });
});

describe('remove', () => {
  test('takes files, row and default', async (t) => {
    const { store, root, records } = await openTestStore(t);
    const { id } = await store.create(named);
    await store.setDefault(id);
    await store.remove(id);
    assert.deepEqual([store.list(), store.default(), records.rows.size, await readdir(root)], [[], null, 0, []]);
    await assert.rejects(store.remove(id), { code: 'image_not_found' });
  });

  test('is refused while the image is in use', async (t) => {
    const { store, used } = await openTestStore(t);
    const { id } = await store.create(named);
    used.add(id);
    await assert.rejects(store.remove(id), { code: 'image_in_use' });
    assert.equal(store.get(id).id, id);
  });
});

describe('files', () => {
  test('the initramfs is made once, and anew for another build or another file', async (t) => {
    const { store, initrds, reopen } = await openTestStore(t);
    const { id } = await store.create(named);
    await store.putKernel(id, body(kernel));
    await store.putRootfs(id, body(rootfs));
    const [files] = await Promise.all([store.files(id), store.files(id), store.files(id)]);
    assert.equal(initrds.made, 1);
    assert.equal(await readFile(files.initrd, 'utf8'), `one ${kernelSha256} ${rootfsSha256}`);
    await (await reopen()).files(id);
    assert.equal(initrds.made, 1);
    initrds.key = 'two';
    const later = await reopen();
    assert.match(await readFile((await later.files(id)).initrd, 'utf8'), /^two /);
    await later.putRootfs(id, body(sampleExt4(128 * 1024)));
    await later.files(id);
    assert.equal(initrds.made, 3);
  });

  test('a failed initramfs leaves nothing and is tried again', async (t) => {
    let fails = true;
    const { store, root } = await openTestStore(t, {
      makeInitrd: async () => ({
        key: 'k',
        write: async (path) => {
          await writeFile(path, 'half');
          if (fails) throw new Error('no space');
        },
      }),
    });
    const { id } = await store.create(named);
    await store.putKernel(id, body(kernel));
    await store.putRootfs(id, body(rootfs));
    await assert.rejects(store.files(id), /no space/);
    assert.deepEqual((await readdir(join(root, 'mine'))).sort(), ['image.json', 'rootfs.ext4', 'vmlinux']);
    fails = false;
    assert.equal(await readFile((await store.files(id)).initrd, 'utf8'), 'half');
  });
});

/** A body whose sender goes away half way. */
function brokenBody(data: Buffer): Readable {
  return Readable.from(
    (async function* () {
      yield data.subarray(0, data.length / 2);
      throw Object.assign(new Error('aborted'), { code: 'ECONNRESET' });
    })(),
  );
}
