import assert from 'node:assert/strict';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, it } from 'node:test';
import type { CreateVm } from './request.ts';
import type { Vms } from './service.ts';
import { daemonPerTest } from './testing/fake-daemon.ts';
import { small } from './testing/fake-fixtures.ts';
import type { FakeHost } from './testing/fake-host.ts';

describe('a VM that brings its own kernel', () => {
  let host: FakeHost;
  let vms: Vms;
  daemonPerTest((daemon) => ({ host, vms } = daemon));

  const own: CreateVm = {
    ...small,
    id: 'own',
    guestChannel: 'optional',
    consoleFile: 'out.log',
  };

  beforeEach(async () => {
    for (const name of ['root', 'data', 'read']) await writeFile(join(host.home, 'image', name), name);
    await writeFile(join(host.home, 'image', 'elf'), Buffer.concat([Buffer.from('\x7fELF'), Buffer.alloc(99)]));
  });
  const request = (): CreateVm => ({
    ...own,
    boot: { kernel: join(host.home, 'image', 'elf') },
    disks: [
      { name: 'data', source: { asset: join(host.home, 'image', 'data') } },
      { name: 'root', source: { asset: join(host.home, 'image', 'root') }, root: true },
      { name: 'read', source: { asset: join(host.home, 'image', 'read') }, readOnly: true },
    ],
    nics: [{ name: 'a' }, { name: 'b', ipv4: { address: '172.16.0.50' } }],
  });

  it('runs it without a word from its guest, its disks and interfaces in order', async () => {
    host.failing.add('ready');
    const vm = await vms.create(request());
    assert.equal(vm.state, 'running');
    assert.throws(() => vms.guest('own'), { code: 'guest_unavailable' });
    const spec = host.specs.get('own');
    assert.deepEqual(
      spec?.disks.map(({ name, serial, format, readOnly }) => [name, serial, format, readOnly]),
      [
        ['root', 'root', 'qcow2', false],
        ['data0', 'data', 'qcow2', false],
        ['data1', 'read', 'raw', true],
      ],
    );
    assert.deepEqual(
      spec?.nics.map(({ name, mac }) => [name, mac]),
      [
        ['net0', vm.nics[0]?.addresses.mac],
        ['net1', '02:00:ac:10:00:32'],
      ],
    );
    assert.equal(spec?.initrd, null);
    await vms.stop('own');
    await vms.start('own');
  });

  it('takes nothing of its files but links, which go with it', async () => {
    await vms.create(request());
    const dir = join(host.home, 'vms', 'own');
    assert.deepEqual((await readdir(dir)).filter((name) => !name.startsWith('layer-')).sort(), [
      'base.ext4',
      'console',
      'data0.base',
      'data0.qcow2',
      'data1.base',
      'manifest.json',
      'run',
      'vmlinux',
    ]);
    assert.equal((await stat(join(dir, 'data1.base'))).nlink, 2);
    await writeFile(join(dir, 'run', 'console.log'), 'hello');
    assert.equal(await readFile(join(dir, 'console', 'out.log'), 'utf8'), 'hello');
    await vms.remove('own');
    assert.equal(await readFile(join(host.home, 'image', 'data'), 'utf8'), 'data');
    assert.equal((await stat(join(host.home, 'image', 'data'))).nlink, 1);
  });

  it('refuses a snapshot of what a snapshot would not hold', async () => {
    await vms.create(request());
    await assert.rejects(vms.snapshot('own'), { code: 'unsupported' });
  });

  it('leaves it as it was when a file is gone at its first start', async () => {
    await vms.create({ ...request(), start: false });
    await rm(join(host.home, 'image', 'data'));
    await assert.rejects(vms.start('own'), { code: 'asset_unusable' });
    assert.deepEqual([vms.get('own').state, await readdir(join(host.home, 'vms'))], ['created', []]);
  });
});
