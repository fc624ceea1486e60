import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { runCommand } from '../common/command.ts';
import { withDictionaryOf4GiB } from '../common/testing/xz.ts';
import { writeCpio } from './cpio.ts';
import { elfSection } from './elf.ts';
import { buildInitramfs } from './initramfs.ts';
import { kernelRelease } from './kernel-release.ts';
import { collectModules, moduleDependencies } from './modules.ts';

const RELEASE = '6.1.0-test';
let work: string;

before(async () => {
  work = await mkdtemp(join(tmpdir(), 'berth-initramfs-'));
});
after(() => rm(work, { recursive: true, force: true }));

/** A minimal ELF file with one section `.modinfo`, and the table of section names. */
function moduleFile(modinfo: readonly string[]): Buffer {
  const info = Buffer.from(modinfo.map((entry) => `${entry}\0`).join(''));
  const names = Buffer.from('\0.modinfo\0.shstrtab\0');
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01\x01', 'latin1');
  const table = 64 + info.length + names.length;
  header.writeBigUInt64LE(BigInt(table), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(3, 0x3c);
  header.writeUInt16LE(2, 0x3e);
  const section = (name: number, offset: number, size: number): Buffer => {
    const entry = Buffer.alloc(64);
    entry.writeUInt32LE(name, 0);
    entry.writeBigUInt64LE(BigInt(offset), 0x18);
    entry.writeBigUInt64LE(BigInt(size), 0x20);
    return entry;
  };
  return Buffer.concat([
    header,
    info,
    names,
    section(0, 0, 0),
    section(1, 64, info.length),
    section(10, 64 + info.length, names.length),
  ]);
}

async function packedByXz(content: string): Promise<Buffer> {
  const path = join(work, 'packed');
  await writeFile(path, content);
  await runCommand('xz', ['--force', path]);
  return readFile(`${path}.xz`);
}

async function imageOf(
  name: string,
  files: Readonly<Record<string, Buffer | string>>,
  change: (tree: string) => Promise<void> = async () => {},
): Promise<string> {
  const tree = join(work, `${name}-tree`);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(tree, path, '..'), { recursive: true });
    await writeFile(join(tree, path), content);
  }
  await mkdir(tree, { recursive: true });
  await change(tree);
  await symlink('usr/lib', join(tree, 'lib'));
  const image = join(work, `${name}.ext4`);
  await writeFile(image, '');
  await truncate(image, 8 * 1024 * 1024);
  await runCommand('mke2fs', ['-q', '-t', 'ext4', '-d', tree, image]);
  return image;
}

test('an archive is what cpio reads', async () => {
  const archive = writeCpio([
    { name: 'dir', mode: 0o040755 },
    { name: 'dir/file', mode: 0o100644, data: Buffer.from('content') },
    { name: 'dir/empty', mode: 0o100600 },
    { name: 'dir/program', mode: 0o100755, data: Buffer.alloc(1001, 'x') },
  ]);
  const path = join(work, 'cpio');
  await mkdir(path);
  await writeFile(join(work, 'archive'), archive);
  await runCommand('sh', ['-c', 'cd "$1" && cpio --quiet -i < ../archive', 'sh', path]);
  assert.equal(await readFile(join(path, 'dir/file'), 'utf8'), 'content');
  assert.equal((await readFile(join(path, 'dir/program'))).length, 1001);
  assert.equal(archive.length % 512, 0);
});

test('a section is found in an ELF file and not in others', () => {
  const file = moduleFile(['depends=a']);
  assert.equal(elfSection(file, '.modinfo')?.toString(), 'depends=a\0');
  assert.equal(elfSection(file, '.text'), null);
  assert.equal(elfSection(file.subarray(0, 100), '.modinfo'), null);
  assert.equal(elfSection(Buffer.from('#!/bin/sh\n'.repeat(20)), '.modinfo'), null);
});

test('a module’s dependencies are read, hard and soft', () => {
  const file = moduleFile(['license=GPL', 'depends=virtio-ring,virtio', 'softdep=pre: crc32c post: x', 'depends=']);
  assert.deepEqual(moduleDependencies(file), ['virtio_ring', 'virtio', 'crc32c']);
});

test('modules are collected dependencies first, whatever they are compressed with', async () => {
  const directory = `usr/lib/modules/${RELEASE}`;
  const blk = moduleFile(['depends=virtio,virtio_ring']);
  const net = moduleFile(['depends=virtio']);
  const image = await imageOf('compressed', {
    [`${directory}/modules.dep`]:
      'kernel/virtio_blk.ko.gz: x\nkernel/virtio_net.ko.zst:\nkernel/virtio.ko:\nkernel/virtio_ring.ko:\nkernel/virtio_rng.ko:\nkernel/unwanted.ko:\n',
    [`${directory}/kernel/virtio_blk.ko.gz`]: gzipSync(blk),
    [`${directory}/kernel/virtio_net.ko.zst`]: zstdCompressSync(net),
    [`${directory}/kernel/virtio.ko`]: moduleFile(['depends=virtio_ring']),
    [`${directory}/kernel/virtio_ring.ko`]: moduleFile(['depends=']),
    [`${directory}/kernel/virtio_rng.ko`]: moduleFile(['depends=virtio']),
    [`${directory}/kernel/unwanted.ko`]: moduleFile([]),
  });
  const modules = await collectModules(image, RELEASE);
  assert.deepEqual(
    modules.map(({ file, phase }) => [file, phase]),
    [
      ['virtio_ring.ko', 'early'],
      ['virtio.ko', 'early'],
      ['virtio_blk.ko', 'early'],
      ['virtio_net.ko', 'network'],
      ['virtio_rng.ko', 'late'],
    ],
  );
  assert.ok(modules[2]?.data.equals(blk));
  assert.ok(modules[3]?.data.equals(net));
});

test('before depmod has run, the kernel package’s own list is used', async () => {
  const directory = `usr/lib/modules/${RELEASE}`;
  const image = await imageOf('order', {
    [`${directory}/modules.order`]: 'kernel/drivers/virtio_blk.ko\n',
    [`${directory}/kernel/drivers/virtio_blk.ko`]: moduleFile([]),
  });
  assert.deepEqual(
    (await collectModules(image, RELEASE)).map(({ file }) => file),
    ['virtio_blk.ko'],
  );
  assert.deepEqual(await collectModules(image, '6.1.0-other'), []);
});

test('a listed module that is missing is an error', async () => {
  const image = await imageOf('missing', { [`usr/lib/modules/${RELEASE}/modules.dep`]: 'kernel/virtio_blk.ko:\n' });
  await assert.rejects(collectModules(image, RELEASE), /virtio_blk.ko is listed/);
});

test('modules that need each other are collected once', async () => {
  const directory = `usr/lib/modules/${RELEASE}`;
  const image = await imageOf('circle', {
    [`${directory}/modules.dep`]: 'kernel/virtio_blk.ko:\nkernel/virtio.ko:\n',
    [`${directory}/kernel/virtio_blk.ko`]: moduleFile(['depends=virtio']),
    [`${directory}/kernel/virtio.ko`]: moduleFile(['depends=virtio_blk,virtio']),
  });
  const modules = await collectModules(image, RELEASE);
  assert.deepEqual(
    modules.map(({ file }) => file),
    ['virtio.ko', 'virtio_blk.ko'],
  );
});

describe('what an image may cost the host', () => {
  const directory = `usr/lib/modules/${RELEASE}`;
  const tooMuch = 65 * 1024 * 1024;

  async function zeros(): Promise<Buffer> {
    const path = join(work, 'zeros');
    await writeFile(path, '');
    await truncate(path, tooMuch);
    await runCommand('xz', ['-0', '--force', path]);
    return readFile(`${path}.xz`);
  }

  test('a list of modules that is a hole of any size is not read', async () => {
    const image = await imageOf('hole', { [`${directory}/modules.dep`]: '' }, async (tree) => {
      await truncate(join(tree, directory, 'modules.dep'), 2 ** 40);
    });
    await assert.rejects(collectModules(image, RELEASE), {
      code: 'image_invalid',
      message: /modules\.dep is too large/,
    });
  });

  for (const [name, extension, content] of [
    ['a module that gzip unpacks to too much', 'gz', async () => gzipSync(Buffer.alloc(tooMuch))],
    ['a module that xz unpacks to too much', 'xz', zeros],
    ['a module that xz needs gigabytes of memory for', 'xz', async () => withDictionaryOf4GiB(await packedByXz('x'))],
    ['a module that is damaged', 'zst', async () => Buffer.from('no module')],
  ] as const) {
    test(`${name} is refused`, async () => {
      const image = await imageOf(name.replaceAll(' ', '-'), {
        [`${directory}/modules.dep`]: `kernel/virtio_blk.ko.${extension}:\n`,
        [`${directory}/kernel/virtio_blk.ko.${extension}`]: await content(),
      });
      await assert.rejects(collectModules(image, RELEASE), { code: 'image_invalid', message: /cannot be unpacked/ });
    });
  }
});

test('the release is read from a bzImage and from a plain kernel', async () => {
  const bzImage = Buffer.alloc(0x1000);
  bzImage.write('HdrS', 0x202, 'latin1');
  bzImage.writeUInt16LE(0x400, 0x20e);
  bzImage.write(`${RELEASE} (builder@host) #1 SMP\0`, 0x600, 'latin1');
  const plain = Buffer.alloc(9 * 1024 * 1024);
  plain.write('Linux version %s (', 1000, 'latin1');
  // Across the border of two pieces that are read one after the other.
  plain.write(`Linux version ${RELEASE} (builder@host)`, 4 * 1024 * 1024 - 10, 'latin1');
  for (const [name, content, release] of [
    ['bzImage', bzImage, RELEASE],
    ['vmlinux', plain, RELEASE],
    ['other', Buffer.from('not a kernel'), null],
  ] as const) {
    await writeFile(join(work, name), content);
    assert.equal(await kernelRelease(join(work, name)), release);
  }
});

test('the same input makes the same initramfs, with init and the list of modules', async () => {
  const directory = `usr/lib/modules/${RELEASE}`;
  const rootfs = await imageOf('whole', {
    [`${directory}/modules.dep`]: 'kernel/virtio_blk.ko:\nkernel/overlay.ko:\n',
    [`${directory}/kernel/virtio_blk.ko`]: moduleFile([]),
    [`${directory}/kernel/overlay.ko`]: moduleFile([]),
  });
  const kernel = join(work, 'kernel');
  const guestInit = join(work, 'guest-init');
  await writeFile(kernel, `Linux version ${RELEASE} (builder@host)`);
  await writeFile(guestInit, 'program');
  const archive = await buildInitramfs({ guestInit, kernel, rootfs });
  assert.ok(archive.includes('early virtio_blk.ko\nlate overlay.ko\n'));
  assert.ok(archive.equals(await buildInitramfs({ guestInit, kernel, rootfs })));
});
