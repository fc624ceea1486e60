import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { eventually } from '../../test/support/eventually.ts';
import { openTestHost } from '../../test/support/service.ts';
import { findBuiltImage } from '../image/build.ts';
import type { Vm } from './model.ts';
import type { CreateVm } from './request.ts';

type TestHost = Awaited<ReturnType<typeof openTestHost>>;

const small: CreateVm = { cpus: 1, memoryMiB: 256, egress: { outbound: true, allow: ['0.0.0.0/0', '::/0'] } };
const port = 8000;

describe('VMs with devices of their makers', () => {
  let host: TestHost;
  let assets: string;
  const asset = (name: string) => join(assets, name);

  before(async () => {
    assets = await mkdtemp('/tmp/berth-assets-');
    const builtin = await findBuiltImage('kernel-builtin');
    assert.ok(builtin, 'the image kernel-builtin is not built');
    await copyFile(builtin.kernel, asset('vmlinux'));
    await writeFile(asset('data'), Buffer.alloc(2 * 1024 * 1024, 'data'));
    execFileSync('qemu-img', ['convert', '-O', 'qcow2', asset('data'), asset('read.qcow2')]);
    host = await openTestHost({ 'assets.directories': [assets] });
  });
  after(async () => {
    await host?.dispose();
    await rm(assets, { recursive: true });
  });

  async function run(vm: Vm, script: string): Promise<string> {
    const argv: [string, ...string[]] = ['/bin/sh', '-c', script];
    const exec = host.vms
      .guest(vm.id)
      .exec({ argv, cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, uid: 0, gid: 0, timeoutMs: 60_000 });
    const [stdout, stderr, exit] = await Promise.all([text(exec.stdout), text(exec.stderr), exec.exit]);
    assert.equal(exit.exitCode, 0, stderr);
    return stdout.trim();
  }

  const digest = async (name: string) =>
    createHash('sha256')
      .update(await readFile(asset(name)))
      .digest('hex');

  describe('beside an image', () => {
    let vm: Vm;
    let neighbour: Vm;
    const request: CreateVm = {
      ...small,
      tenant: 'a',
      name: 'Two of everything!',
      disks: [
        { name: 'scratch', source: { asset: '' }, sizeMiB: 3 },
        { name: 'library', source: { asset: '' }, readOnly: true },
      ],
      nics: [{ name: 'front' }, { name: 'back', mac: '02:aa:00:00:00:01', ipv4: { address: '172.16.0.77' } }],
    };

    before(async () => {
      const [scratch, library] = request.disks ?? [];
      const disks = [
        { ...scratch!, source: { asset: asset('data') } },
        { ...library!, source: { asset: asset('read.qcow2') } },
      ];
      [vm, neighbour] = await Promise.all([
        host.vms.create({ ...request, disks }),
        host.vms.create({ ...small, tenant: 'b' }),
      ]);
    });

    it('have their disks in order, with their names, sizes and contents', async () => {
      const script =
        'for d in vda vdb vdc; do echo $(cat /sys/block/$d/serial) $(cat /sys/block/$d/size /sys/block/$d/ro); done';
      const [root, scratch, library] = (await run(vm, script)).split('\n');
      assert.match(root ?? '', /^root \d+ 0$/);
      assert.equal(scratch, `scratch ${(3 * 1024 * 1024) / 512} 0`);
      assert.equal(library, `library ${(2 * 1024 * 1024) / 512} 1`);
      const sums = await run(vm, 'head -c 2097152 /dev/vdb | sha256sum; sha256sum < /dev/vdc');
      const expected = `${await digest('data')}  -`;
      assert.deepEqual(sums.split('\n'), [expected, expected]);
    });

    it('write to a layer of their own, which stays, and never to an asset', async () => {
      const before = await digest('data');
      await run(vm, 'echo mine | dd of=/dev/vdb conv=fsync,notrunc status=none; ! echo x 2>/dev/null > /dev/vdc');
      await host.vms.stop(vm.id);
      vm = await host.vms.start(vm.id);
      assert.equal(await run(vm, 'head -c 4 /dev/vdb'), 'mine');
      assert.equal(await digest('data'), before);
    });

    it('have their interfaces in order, each with its addresses', async () => {
      assert.equal(await run(vm, 'hostname'), 'Two-of-everything-');
      assert.equal(vm.nics[1]?.addresses.ipv4, '172.16.0.77');
      for (const [index, { addresses }] of vm.nics.entries()) {
        const shown = await run(vm, `ip addr show dev eth${index}`);
        for (const part of [addresses.mac, `${addresses.ipv4}/24`, `${addresses.ipv6}/64`])
          assert.ok(shown.includes(part), `${part} in ${shown}`);
      }
    });

    it('are reached by the addresses of all their interfaces, from the host and by no other tenant', async () => {
      await run(vm, `cd / && (python3 -m http.server --bind :: ${port} >/dev/null 2>&1 &)`);
      const targets = vm.nics.flatMap(({ addresses: { ipv4, ipv6 } }) => [ipv4, ipv6 ?? '']);
      await eventually('it serves', () => answers(targets[0] ?? ''));
      for (const target of targets) assert.ok(await answers(target), target);
      const probe = targets.map((ip) => `(timeout 3 bash -c '</dev/tcp/${ip}/${port}' 2>/dev/null && echo ${ip}) &`);
      assert.equal(await run(neighbour, `${probe.join(' ')} wait; true`), '');
      const gateway = `bash -c '</dev/tcp/172.16.0.1/${port}' 2>&1 | grep -o refused | head -1`;
      assert.equal(await run(neighbour, gateway), 'refused', 'the neighbour reaches nothing at all');
    });

    it('are told from what they use', async () => {
      await run(
        vm,
        'head -c 1000000 /dev/vdb > /dev/null; echo y | dd of=/dev/vdb seek=9 conv=fsync,notrunc status=none',
      );
      const usage = await host.vms.usage(vm.id);
      assert.ok(usage !== null && usage.cpuMicros > 0 && usage.residentBytes > 64 * 1024 * 1024);
      const [root, scratch, library] = usage.disks;
      assert.deepEqual([root?.name, scratch?.name, library?.name], ['root', 'scratch', 'library']);
      assert.ok((root?.readBytes ?? 0) > 1e6, `${root?.readBytes} bytes read of the root disk`);
      assert.ok((scratch?.writtenBytes ?? 0) >= 512 && (scratch?.writes ?? 0) >= 1);
      assert.equal(library?.writtenBytes, 0);
      const [front, back] = usage.nics;
      assert.deepEqual([front?.name, back?.name], ['front', 'back']);
      assert.ok((front?.rxBytes ?? 0) > 0 && (front?.txBytes ?? 0) > 0 && (back?.rxBytes ?? 0) > 0);
      const { id } = await host.vms.create({ ...small, start: false });
      assert.equal(await host.vms.usage(id), null);
    });

    it('leave nothing behind', async () => {
      await Promise.all([vm, neighbour].map(({ id }) => host.vms.remove(id)));
      const links = execFileSync('ip', ['-o', 'link', 'show'], { encoding: 'utf8' });
      assert.doesNotMatch(links, /berth0-/);
      const rules = execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' });
      assert.doesNotMatch(rules, /172\.16\.0\.77|02:aa/);
    });
  });

  describe('with a kernel of their own', () => {
    let vm: Vm;
    const console = () => readFile(join(host.home, 'vms', vm.id, 'console', 'vm-console.log'), 'utf8');

    before(async () => {
      vm = await host.vms.create({
        ...small,
        guestChannel: 'optional',
        boot: { kernel: asset('vmlinux') },
        kernelArgs:
          'console=ttyS0 reboot=k panic=1 init=/bin/sh -- -c "echo up as $$ on $(cat /proc/cmdline); exec sleep 1000"',
        disks: [{ name: 'rootfs', source: { image: 'sandbox' }, root: true }],
        nics: [{ name: 'eth0', families: 'ipv4' }],
        consoleFile: 'vm-console.log',
      });
    });

    it('run without a word from the guest, whose console is in a file of the name asked for', async () => {
      assert.equal(vm.state, 'running');
      await eventually('its kernel has started its init', async () => /Run \/bin\/sh as init/.test(await console()));
      assert.match(await console(), /Command line:.* root=\/dev\/vda rw ip=172\.16\.0\.\d+::172\.16\.0\.1:/);
      assert.throws(() => host.vms.guest(vm.id), { code: 'guest_unavailable' });
    });

    it('pause, resume and stop, though their guest ignores the power button', async () => {
      assert.equal((await host.vms.pause(vm.id)).state, 'paused');
      assert.equal((await host.vms.resume(vm.id)).state, 'running');
      assert.equal((await host.vms.stop(vm.id, { graceMs: 300 })).state, 'stopped');
    });
  });
});

async function answers(target: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host: target, port });
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  socket.setTimeout(5000, () => resolve(false));
  return promise.finally(() => socket.destroy());
}
