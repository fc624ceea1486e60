import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Assets } from './assets.ts';

describe('assets', () => {
  let dir: string;
  let assets: Assets;
  const at = (name: string) => join(dir, name);

  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'berth-assets-'));
    for (const name of ['assets', 'assets/deep', 'elsewhere', 'vm']) mkdirSync(at(name));
    for (const name of ['assets/disk', 'assets/deep/disk', 'elsewhere/disk']) writeFileSync(at(name), name);
    writeFileSync(at('assets/kernel'), Buffer.concat([Buffer.from('\x7fELF', 'latin1'), Buffer.alloc(1000)]));
    symlinkSync(at('elsewhere/disk'), at('assets/way-out'));
    symlinkSync(at('elsewhere'), at('assets/dir-out'));
    symlinkSync('deep/disk', at('assets/way-in'));
    symlinkSync(at('assets'), at('alias'));
    execFileSync('mkfifo', [at('assets/fifo')]);
    assets = new Assets([at('alias'), at('missing')]);
  });
  after(() => rmSync(dir, { recursive: true }));

  it('are files of the directories, by whatever name they are found there', async () => {
    for (const name of ['assets/disk', 'alias/disk'])
      assert.equal((await assets.disk('a', at(name))).path, at('assets/disk'));
    assert.deepEqual(await assets.disk('a', at('assets/way-in')), {
      path: at('assets/deep/disk'),
      format: 'raw',
      virtualSizeBytes: 16,
    });
    assert.equal(await assets.kernel(at('assets/kernel')), at('assets/kernel'));
  });

  for (const name of [
    'elsewhere/disk',
    'assets/../elsewhere/disk',
    'assets/./disk',
    'assets//disk',
    'assets/way-out',
    'assets/dir-out/disk',
    'assets/deep',
    'assets',
    'assets/missing',
    'missing/disk',
    'assets/fifo',
    'assets/disk\0',
    'assets-other/disk',
  ])
    it(`are not ${JSON.stringify(name)}, in the same words as whatever else is none`, async () => {
      await assert.rejects(assets.disk('a', `${dir}/${name}`), {
        code: 'invalid_argument',
        message: 'disk a: no such file in an asset directory',
      });
    });

  it('are named by absolute paths', async () => {
    for (const name of ['', 'disk', `../${'../'.repeat(20)}etc/passwd`, `/${'a'.repeat(5000)}`])
      await assert.rejects(assets.initrd(name), { code: 'invalid_argument' });
  });

  it('are kernels by what is in them', async () => {
    await assert.rejects(assets.kernel(at('assets/disk')), /the kernel: not an ELF or bzImage kernel/);
  });

  it('are linked into a VM, and the same file for good', async () => {
    const asset = await assets.disk('a', at('assets/disk'));
    await assets.pinDisk('a', asset, at('vm/linked'));
    assert.equal((await stat(at('vm/linked'))).ino, (await stat(asset.path)).ino);
    writeFileSync(at('assets/new'), 'another');
    renameSync(at('assets/new'), at('assets/disk'));
    assert.equal(await readFile(at('vm/linked'), 'utf8'), 'assets/disk');
    writeFileSync(at('assets/disk'), 'assets/disk');
  });

  it('are copied where VM processes could not read them, and left as they are', async () => {
    chmodSync(at('assets/deep/disk'), 0o600);
    await assets.pinDisk('a', await assets.disk('a', at('assets/deep/disk')), at('vm/copied'));
    assert.equal(await readFile(at('vm/copied'), 'utf8'), 'assets/deep/disk');
    const [copy, asset] = [await stat(at('vm/copied')), await stat(at('assets/deep/disk'))];
    assert.notEqual(copy.ino, asset.ino);
    assert.deepEqual([copy.mode & 0o777, asset.mode & 0o777], [0o644, 0o600]);
  });

  it('are looked at again when they are used', async () => {
    const asset = await assets.disk('a', at('assets/disk'));
    const refused = { code: 'asset_unusable' };
    execFileSync('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-F', 'raw', '-b', '/etc/passwd', asset.path, '1M']);
    await assert.rejects(assets.pinDisk('a', asset, at('vm/changed')), refused);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', asset.path, '1M']);
    await assert.rejects(assets.pinDisk('a', asset, at('vm/changed')), refused);
    rmSync(asset.path);
    await assert.rejects(assets.pinDisk('a', asset, at('vm/changed')), refused);
    symlinkSync(at('elsewhere/disk'), asset.path);
    await assert.rejects(assets.pin('disk a', asset.path, at('vm/changed')), refused);
    await assert.rejects(stat(at('vm/changed')), { code: 'ENOENT' });
  });
});
