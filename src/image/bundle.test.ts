import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';
import { openTestStore } from './testing/open-store.ts';
import { sampleElf, sampleExt4, sampleZip } from './testing/samples.ts';

const kernel = sampleElf();
const rootfs = sampleExt4();
const named = { name: 'mine', description: '' };

describe('putBundle', () => {
  test('takes both files from any depth and leaves the rest', async (t) => {
    const { store, root } = await openTestStore(t);
    const { id } = await store.create(named);
    const zip = sampleZip([
      ['README', Buffer.from('hello')],
      ['image/x86/vmlinux', kernel],
      ['image/rootfs.ext4', rootfs],
    ]);
    const image = await store.putBundle(id, Readable.from([zip]));
    assert.deepEqual([image.kernel?.bytes, image.rootfs?.bytes], [kernel.length, rootfs.length]);
    assert.deepEqual((await readdir(join(root, 'mine'))).sort(), ['image.json', 'rootfs.ext4', 'vmlinux']);
  });

  test('takes one file and keeps the other', async (t) => {
    const { store } = await openTestStore(t);
    const { id } = await store.create(named);
    const before = await store.putRootfs(id, Readable.from([rootfs]));
    const after = await store.putBundle(id, Readable.from([sampleZip([['vmlinux', kernel]])]));
    assert.deepEqual(after.rootfs, before.rootfs);
    assert.equal(after.kernel?.bytes, kernel.length);
  });

  const bomb = Buffer.alloc(8 * 1024 * 1024);
  const refused: readonly (readonly [string, Buffer, string])[] = [
    ['neither file', sampleZip([['other', kernel]]), 'invalid_argument'],
    ['no zip', Buffer.alloc(5000, 1), 'image_invalid'],
    ['a cut off zip', sampleZip([['vmlinux', kernel]]).subarray(0, -30), 'image_invalid'],
    [
      'the same file twice',
      sampleZip([
        ['a/vmlinux', kernel],
        ['b/vmlinux', kernel],
      ]),
      'image_invalid',
    ],
    ['a file that is not what it is named', sampleZip([['vmlinux', rootfs]]), 'image_invalid'],
    [
      'one good file and one bad',
      sampleZip([
        ['vmlinux', kernel],
        ['rootfs.ext4', kernel],
      ]),
      'image_invalid',
    ],
    ['a file that unpacks beyond the limit', sampleZip([['rootfs.ext4', bomb]]), 'payload_too_large'],
    ['a file that unpacks to more than it says', sampleZip([['rootfs.ext4', bomb]], 4096), 'invalid_argument'],
    ['a path that leaves the image', sampleZip([['../vmlinux', kernel]]), 'image_invalid'],
    [
      'a zip beyond the limit',
      Buffer.concat([Buffer.alloc(3 * 1024 * 1024, 1), sampleZip([['vmlinux', kernel]])]),
      'payload_too_large',
    ],
  ];
  for (const [name, zip, code] of refused) {
    test(`refuses ${name}, whole`, async (t) => {
      const { store, root } = await openTestStore(t, { maxFileBytes: 1024 * 1024 });
      const { id } = await store.create(named);
      await assert.rejects(store.putBundle(id, Readable.from([zip])), { code });
      assert.deepEqual([store.get(id).kernel, store.get(id).rootfs], [null, null]);
      assert.deepEqual(await readdir(join(root, 'mine')), ['image.json']);
    });
  }
});
