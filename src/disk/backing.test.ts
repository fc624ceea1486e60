import assert from 'node:assert/strict';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { runCommand } from '../common/command.ts';
import { readBacking } from './backing.ts';
import { createOverlay } from './qcow2.ts';

const MiB = 1024 * 1024;
let dir: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'berth-backing-'));
  await writeFile(join(dir, 'base.ext4'), Buffer.alloc(MiB));
});
after(() => rm(dir, { recursive: true, force: true }));

test("the layer below is read from what Berth and QEMU's own tools write", async () => {
  const ours = join(dir, 'ours.qcow2');
  await createOverlay({ path: ours, backing: 'base.ext4', backingFormat: 'raw', sizeBytes: MiB, uid: null });
  assert.equal(await readBacking(ours), 'base.ext4');
  const theirs = join(dir, 'theirs.qcow2');
  await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', 'ours.qcow2', '-F', 'qcow2', theirs]);
  assert.equal(await readBacking(theirs), 'ours.qcow2');
  await runCommand('qemu-img', ['rebase', '-f', 'qcow2', '-b', 'base.ext4', '-F', 'raw', theirs]);
  assert.equal(await readBacking(theirs), 'base.ext4');
  const alone = join(dir, 'alone.qcow2');
  await runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', alone, '1M']);
  assert.equal(await readBacking(alone), null);
});

test('a header that is none, or names what it does not hold, is refused', async () => {
  const path = join(dir, 'hostile.qcow2');
  for (const content of ['', 'QFI\xfb', 'x'.repeat(200)]) {
    await writeFile(path, content, 'latin1');
    await assert.rejects(readBacking(path), /not a qcow2 file/);
  }
  for (const [offset, length] of [
    [104n, 0],
    [104n, 1024],
    [104n, 0xffff_ffff],
    [65_535n, 2],
    [2n ** 63n, 9],
  ] as const) {
    await createOverlay({ path, backing: 'base.ext4', backingFormat: 'raw', sizeBytes: MiB, uid: null });
    const fields = Buffer.alloc(12);
    fields.writeBigUInt64BE(offset);
    fields.writeUInt32BE(length, 8);
    const file = await open(path, 'r+');
    await file.write(fields, 0, 12, 8);
    await file.close();
    await assert.rejects(readBacking(path), /does not hold/);
  }
});
