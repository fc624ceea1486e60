import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BerthError } from '../../common/errors.ts';
import type { EngineDisk, EngineNic, EngineVmSpec } from '../engine.ts';
import { chooseMachine, qemuArgs, tapDescriptors } from './qemu-args.ts';

const spec: EngineVmSpec = {
  ...{ id: '6f9f2f9e-9f5b-4a57-9b0c-0d9d4a0f6a11', dir: '/vms/a,b', cpus: 2, memoryMiB: 512 },
  ...{ kernel: '/k', initrd: '/i', kernelArgs: ['quiet'], disks: [], nics: [], machine: 'auto', uid: 1 },
  limits: { cpuPercent: null, memoryOverheadMiB: null },
};
const tcg = { acceleration: 'tcg', tscKhz: 2_000_000, translationMiB: 64 } as const;
const disk = (name: string, readOnly = false): EngineDisk => ({
  name,
  path: `/d/${name},x`,
  format: 'qcow2',
  readOnly,
});
const tap = (name: string): EngineNic => ({
  name,
  backend: { kind: 'tap', tap: `t-${name}` },
  mac: '02:00:00:00:00:01',
});

/** The values of an option, in order. */
function values(args: readonly string[], option: string): string[] {
  return args.flatMap((arg, index) => (arg === option ? [args[index + 1] ?? ''] : []));
}

test('the basic arguments', () => {
  const args = qemuArgs(spec, tcg);
  const rows: readonly [string, readonly string[]][] = [
    ['-name', [`berth-${spec.id}:/vms/a,,b,process=berth-vm`]],
    ['-uuid', [spec.id]],
    ['-sandbox', ['on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny']],
    ['-accel', ['tcg,thread=multi,tb-size=64']],
    ['-smp', ['2']],
    ['-m', ['512M']],
    ['-kernel', ['/k']],
    ['-initrd', ['/i']],
    ['-append', ['console=ttyS0 panic=-1 tsc_early_khz=2000000 tsc=reliable mitigations=off quiet']],
    ['-action', ['reboot=shutdown,shutdown=poweroff,panic=exit-failure']],
  ];
  for (const [option, expected] of rows) assert.deepEqual(values(args, option), expected, option);
  for (const flag of ['-nodefaults', '-no-user-config', '-nographic']) assert.ok(args.includes(flag), flag);
});

test('with KVM the guest sees the host processor and has a clock of its own', () => {
  const args = qemuArgs(spec, { ...tcg, acceleration: 'kvm' });
  assert.deepEqual(values(args, '-accel'), ['kvm']);
  assert.deepEqual(values(args, '-cpu'), ['host,migratable=on']);
  assert.deepEqual(values(args, '-append'), ['console=ttyS0 panic=-1 quiet']);
});

test('what is optional is left out', () => {
  const args = qemuArgs({ ...spec, id: 'no-uuid', initrd: null }, { ...tcg, tscKhz: null });
  assert.deepEqual([...values(args, '-uuid'), ...values(args, '-initrd')], []);
  assert.deepEqual(values(args, '-append'), ['console=ttyS0 panic=-1 mitigations=off quiet']);
});

test('a VM that boots has memory of its own', () => {
  const args = qemuArgs(spec, tcg);
  assert.match(values(args, '-machine')[0] ?? '', /,memory-backend=mem,/);
  const memory = { 'qom-type': 'memory-backend-ram', id: 'mem', size: 512 * 1024 * 1024 };
  assert.deepEqual(JSON.parse(values(args, '-object')[0] ?? ''), memory);
  assert.deepEqual([...values(args, '-incoming'), ...values(args, '-global')], []);
  assert.ok(!args.includes('-S'));
});

test('a VM that goes on from captured memory maps it privately and waits', () => {
  const args = qemuArgs(spec, { ...tcg, incoming: true });
  const memory = {
    'qom-type': 'memory-backend-file',
    id: 'mem',
    size: 512 * 1024 * 1024,
    'mem-path': '/proc/self/fd/100',
    share: false,
  };
  assert.deepEqual(JSON.parse(values(args, '-object')[0] ?? ''), memory);
  assert.deepEqual(values(args, '-incoming'), ['defer']);
  assert.ok(args.includes('-S'));
});

test('disks are cached safely, in order, and read-only ones stay so', () => {
  const args = qemuArgs({ ...spec, disks: [disk('root'), disk('ro', true)] }, tcg);
  const nodes = values(args, '-blockdev').map((text) => JSON.parse(text) as Record<string, unknown>);
  assert.deepEqual(nodes, [
    {
      ...{ driver: 'qcow2', 'node-name': 'node-root', 'read-only': false, discard: 'unmap', 'detect-zeroes': 'unmap' },
      cache: { direct: false, 'no-flush': false },
      file: { driver: 'file', filename: '/d/root,x', discard: 'unmap' },
    },
    {
      ...{ driver: 'qcow2', 'node-name': 'node-ro', 'read-only': true, discard: 'ignore' },
      cache: { direct: false, 'no-flush': false },
      file: { driver: 'file', filename: '/d/ro,x', discard: 'ignore' },
    },
  ]);
  const drives = values(args, '-device').map((text) => JSON.parse(text) as Record<string, unknown>);
  assert.deepEqual(
    drives.flatMap(({ driver, drive }) => (driver === 'virtio-blk-device' ? [drive] : [])),
    ['node-root', 'node-ro'],
  );
});

test('a tap is a descriptor, never opened by QEMU; user networking can be cut off', () => {
  const user: EngineNic = { name: 'u', backend: { kind: 'user', restrict: true }, mac: '02:00:00:00:00:02' };
  const nics = [user, tap('a')];
  const backends = values(qemuArgs({ ...spec, nics }, tcg), '-netdev').map((text) => JSON.parse(text) as unknown);
  assert.deepEqual(backends, [
    { type: 'user', id: 'net0', restrict: true },
    { type: 'tap', id: 'net1', fd: '@tap1@' },
  ]);
  assert.deepEqual(tapDescriptors({ nics }), [{ name: 'tap1', tap: 't-a' }]);
});

test('the machine has room for its devices', () => {
  const disks = (count: number) => Array.from({ length: count }, (_, index) => disk(`d${index}`));
  const rows = [
    ['auto', 4, 1, 'microvm'],
    ['auto', 5, 1, 'q35'],
    ['q35', 0, 0, 'q35'],
    ['microvm', 4, 1, 'microvm'],
  ] as const;
  for (const [machine, count, nics, expected] of rows) {
    assert.equal(chooseMachine({ machine, disks: disks(count), nics: Array(nics).fill(tap('a')) }), expected);
  }
  assert.throws(() => chooseMachine({ machine: 'microvm', disks: disks(6), nics: [] }), BerthError);
  const devices = values(qemuArgs({ ...spec, machine: 'q35', disks: disks(1) }, tcg), '-device');
  assert.ok(devices.some((text) => text.includes('virtio-blk-pci')));
  assert.ok(!devices.some((text) => text.includes('-device"')));
});
