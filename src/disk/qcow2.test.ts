import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CommandError, runCommand } from '../common/command.ts';
import { createOverlay, grow, info } from './qcow2.ts';
import { createDisk } from './testing/create-disk.ts';

const MiB = 1024 * 1024;
let dir: string;

/** Reads and writes by QEMU's own tool, which fails when a pattern is not what it reads. */
async function qemuIo(path: string, format: string, commands: readonly string[]): Promise<void> {
  const { stdout } = await runCommand('qemu-io', [
    '-f',
    format,
    ...commands.flatMap((command) => ['-c', command]),
    path,
  ]);
  assert.doesNotMatch(stdout, /failed|error/i);
}

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'berth-disk-'));
  await chmod(dir, 0o711);
  await writeFile(join(dir, 'base.ext4'), '');
  await truncate(join(dir, 'base.ext4'), 8 * MiB);
  await writeFile(join(dir, 'pattern.raw'), '');
  await truncate(join(dir, 'pattern.raw'), 8 * MiB);
});
after(() => rm(dir, { recursive: true, force: true }));

test('an overlay names its base relatively and has the size it was given', async () => {
  const path = join(dir, 'overlay.qcow2');
  await createOverlay({ path, backing: 'base.ext4', backingFormat: 'raw', sizeBytes: 64 * MiB, uid: null });
  const { virtualSizeBytes, actualSizeBytes, backing } = await info(path, 'qcow2');
  assert.deepEqual({ virtualSizeBytes, backing }, { virtualSizeBytes: 64 * MiB, backing: 'base.ext4' });
  assert.ok(actualSizeBytes < MiB);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test('an overlay of any size is without a fault, and reads as what is below it until it is written to', async () => {
  const base = join(dir, 'pattern.raw');
  await qemuIo(base, 'raw', ['write -P 0x5a 1M 64k']);
  // One sector; an odd size; where a second entry, and a second cluster, of the first-level table begins; the largest.
  const sizes = [512, 3 * MiB + 1, 512 * MiB, 512 * MiB + 1, 2 ** 42, 2 ** 42 + 1, 2 ** 44];
  for (const [index, sizeBytes] of sizes.entries()) {
    const path = join(dir, `any-${index}.qcow2`);
    await createOverlay({ path, backing: 'pattern.raw', backingFormat: 'raw', sizeBytes, uid: null });
    assert.equal((await info(path, 'qcow2')).virtualSizeBytes, Math.ceil(sizeBytes / 512) * 512);
    await runCommand('qemu-img', ['check', '-q', '-f', 'qcow2', path]);
  }
  const top = join(dir, 'top.qcow2');
  const sizeBytes = 600 * MiB;
  await createOverlay({
    path: join(dir, 'middle.qcow2'),
    backing: 'pattern.raw',
    backingFormat: 'raw',
    sizeBytes,
    uid: null,
  });
  await createOverlay({ path: top, backing: 'middle.qcow2', backingFormat: 'qcow2', sizeBytes, uid: null });
  await qemuIo(top, 'qcow2', [
    'read -P 0x5a 1M 64k',
    'read -P 0 550M 1M',
    'write -P 0x33 1M 4k',
    'write -P 0x44 599M 1M',
  ]);
  await qemuIo(top, 'qcow2', ['read -P 0x33 1M 4k', 'read -P 0x5a 1028k 60k', 'read -P 0x44 599M 1M']);
  await qemuIo(join(dir, 'middle.qcow2'), 'qcow2', ['read -P 0x5a 1M 64k', 'read -P 0 599M 1M']);
  await grow(top, 'qcow2', 1200 * MiB);
  await qemuIo(top, 'qcow2', ['read -P 0x33 1M 4k', 'read -P 0 1100M 1M', 'write -P 0x55 1100M 1M']);
  await runCommand('qemu-img', ['check', '-q', '-f', 'qcow2', top]);
});

test('a disk grows and does not shrink', async () => {
  const path = join(dir, 'grow.qcow2');
  await createDisk({ path, format: 'qcow2', sizeBytes: 4 * MiB, uid: null });
  await grow(path, 'qcow2', 16 * MiB);
  await assert.rejects(grow(path, 'qcow2', 8 * MiB), CommandError);
  assert.equal((await info(path, 'qcow2')).virtualSizeBytes, 16 * MiB);
});

test('a raw disk that carries a qcow2 header stays raw', async () => {
  const inner = join(dir, 'inner.qcow2');
  await createDisk({ path: inner, format: 'qcow2', sizeBytes: 512 * MiB, uid: null });
  const { size } = await stat(inner);
  // Raw disks are whole sectors.
  assert.equal((await info(inner, 'raw')).virtualSizeBytes, Math.ceil(size / 512) * 512);
});

test('a layer below must be a plain name', async () => {
  for (const backing of ['../base.ext4', '/etc/passwd', 'json:{}', 'nbd:unix:/x', '-b', '']) {
    const options = { path: join(dir, 'no.qcow2'), backing, backingFormat: 'raw', sizeBytes: MiB, uid: null } as const;
    await assert.rejects(createOverlay(options), RangeError);
  }
});

test('sizes that are no sizes are refused', async () => {
  for (const sizeBytes of [0, -1, 1.5, Number.NaN, 2 ** 60]) {
    const overlay = {
      path: join(dir, 'no.qcow2'),
      backing: 'base.ext4',
      backingFormat: 'raw',
      sizeBytes,
      uid: null,
    } as const;
    await assert.rejects(createOverlay(overlay), RangeError);
  }
  assert.deepEqual(
    (await readdir(dir)).filter((name) => name.startsWith('no.')),
    [],
  );
});

test('a failed creation leaves nothing', async () => {
  const full = join(dir, 'failed');
  await mkdir(full);
  // No file can belong to such a user.
  const path = join(full, 'big.qcow2');
  const overlay = { path, backing: 'base.ext4', backingFormat: 'raw', sizeBytes: MiB, uid: 2 ** 33 } as const;
  await assert.rejects(createOverlay(overlay));
  assert.deepEqual(await readdir(full), []);
});

test('an image of a VM is opened with its rights only', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, async () => {
  const secret = join(dir, 'secret.qcow2');
  await createDisk({ path: secret, format: 'qcow2', sizeBytes: MiB, uid: null });
  const path = join(dir, 'hostile.qcow2');
  await createOverlay({ path, backing: 'secret.qcow2', backingFormat: 'qcow2', sizeBytes: MiB, uid: 54321 });
  assert.equal((await stat(path)).uid, 54321);
  assert.equal((await info(path, 'qcow2')).backing, 'secret.qcow2');
  // Resizing opens the layer below, which the owner may not read.
  await assert.rejects(grow(path, 'qcow2', 2 * MiB), /Permission denied/);
});
