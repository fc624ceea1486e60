import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { createBridgePlan } from '../net/bridge-plan.ts';
import { kernelArgs, machineFor } from './kernel-args.ts';
import type { Vm } from './model.ts';
import { sampleVm } from './testing/sample-vm.ts';

const plan = createBridgePlan({ bridge: 'berth0', address4: '172.16.0.1/16', address6: null, resolver: true });
const own = (change: Partial<Vm> = {}) => sampleVm(5, { boot: { kernel: '/k', initrd: null }, ...change });
const ip = 'ip=172.16.0.5::172.16.0.1:255.255.0.0::eth0:off:172.16.0.1';

describe('kernel parameters', () => {
  it('of an image come before those of the creator', () => {
    assert.deepEqual(kernelArgs(sampleVm(1, { kernelArgs: 'a  b=c' }), plan).slice(-2), ['a', 'b=c']);
    assert.doesNotMatch(kernelArgs(sampleVm(1), plan).join(' '), /root=|ip=/);
  });

  it('tell a kernel of the creator where its root and its address are', () => {
    assert.deepEqual(kernelArgs(own({ kernelArgs: 'reboot=k -- x' }), plan), [
      'root=/dev/vda',
      'rw',
      ip,
      'reboot=k',
      '--',
      'x',
    ]);
    const readOnly = { name: 'root', readOnly: true, asset: null };
    assert.deepEqual(kernelArgs(own({ rootDisk: readOnly }), plan).slice(0, 2), ['root=/dev/vda', 'ro']);
  });

  it('leave to the creator what it says', () => {
    assert.deepEqual(kernelArgs(own({ kernelArgs: 'root=/dev/vdb1 ip=dhcp' }), plan), ['root=/dev/vdb1', 'ip=dhcp']);
  });
});

describe('the machine', () => {
  const dir = mkdtempSync(join(tmpdir(), 'berth-kernel-'));
  after(() => rmSync(dir, { recursive: true }));
  const kernel = join(dir, 'kernel');

  it('is found for a kernel of the creator by what it knows', async () => {
    // Across the boundary of what is read at a time.
    const text = Buffer.alloc(1024 * 1024 + 100, '.');
    writeFileSync(kernel, text);
    assert.equal(await machineFor(own(), kernel), 'q35');
    assert.equal(await machineFor(own({ kernelArgs: 'quiet pci=off' }), kernel), 'auto');
    assert.equal(await machineFor(sampleVm(1), kernel), 'auto');
    text.write('LNRO0005', 1024 * 1024 - 4);
    writeFileSync(kernel, text);
    assert.equal(await machineFor(own(), kernel), 'auto');
  });
});
