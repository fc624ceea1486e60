import { BerthError } from '../../common/errors.ts';
import type { EngineDisk, EngineNic, EngineVmSpec } from '../engine.ts';
import { processLabel } from './qemu-process.ts';

/** What QEMU's arguments depend on beside the VM itself. */
export interface QemuHost {
  readonly acceleration: 'kvm' | 'tcg';
  /** Rate of the host's time stamp counter, null when unknown; needed for guests without KVM. */
  readonly tscKhz: number | null;
  /** MiB for translated code when there is no KVM. */
  readonly translationMiB: number;
  /** Waits for the state of a VM whose memory is in {@link memoryDescriptor}, instead of booting. */
  readonly incoming?: boolean;
}

/** Descriptors that a process which goes on from captured memory is given: higher than any that is given out by itself. */
export const memoryDescriptor = 100;
export const stateDescriptor = 101;

/** A virtio-mmio bus of the microvm machine each. */
const microvmSlots = 8;
/** Random numbers, memory balloon, guest channel. */
const fixedDevices = 3;

/** Name of the port in the guest: /dev/virtio-ports/org.berth.guest.0. */
const guestPort = 'org.berth.guest.0';

/** The machine a VM gets: microvm unless it is asked for otherwise or has too few slots. */
export function chooseMachine(spec: Pick<EngineVmSpec, 'machine' | 'disks' | 'nics'>): 'microvm' | 'q35' {
  const fits = fixedDevices + spec.disks.length + spec.nics.length <= microvmSlots;
  if (spec.machine === 'microvm' && !fits) {
    throw new BerthError('invalid_argument', {
      reason: `a microvm has at most ${microvmSlots - fixedDevices} disks and networks`,
    });
  }
  if (spec.machine === 'auto') return fits ? 'microvm' : 'q35';
  return spec.machine;
}

/** Names of the tap descriptors that {@link qemuArgs} refers to as `@name@`, with their interfaces. */
export function tapDescriptors(
  spec: Pick<EngineVmSpec, 'nics'>,
): readonly { readonly name: string; readonly tap: string }[] {
  return spec.nics.flatMap(({ backend }, index) =>
    backend.kind === 'tap' ? [{ name: `tap${index}`, tap: backend.tap }] : [],
  );
}

/**
 * QEMU's arguments. The launcher replaces `@qmp@`, `@guest@`, `@console@` and the names of {@link tapDescriptors} by
 * descriptor numbers: the process itself opens nothing but disks, kernel and initramfs.
 */
export function qemuArgs(spec: EngineVmSpec, host: QemuHost): string[] {
  const machine = chooseMachine(spec);
  const device = (driver: string, properties: object) => [
    '-device',
    JSON.stringify({ driver: `${driver}-${machine === 'microvm' ? 'device' : 'pci'}`, ...properties }),
  ];
  return [
    ...['-name', processLabel(spec.id, spec.dir)],
    ...(isUuid(spec.id) ? ['-uuid', spec.id] : []),
    '-no-user-config',
    '-nodefaults',
    '-nographic',
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-machine', machineOptions(machine)],
    ...['-accel', host.acceleration === 'kvm' ? 'kvm' : `tcg,thread=multi,tb-size=${host.translationMiB}`],
    ...['-cpu', host.acceleration === 'kvm' ? 'host,migratable=on' : translatedCpu],
    ...['-smp', String(spec.cpus)],
    ...['-m', `${spec.memoryMiB}M`],
    ...['-object', JSON.stringify(memoryBackend(spec, host))],
    ...incoming(host),
    // A guest that reboots ends its process: it starts again as the same machine only when the host prepares it anew.
    ...['-action', 'reboot=shutdown,shutdown=poweroff,panic=exit-failure'],
    ...['-kernel', spec.kernel],
    ...(spec.initrd === null ? [] : ['-initrd', spec.initrd]),
    ...['-append', kernelCommandLine(spec, host)],
    ...['-chardev', 'socket,id=qmp,fd=@qmp@,server=on,wait=off', '-mon', 'chardev=qmp,mode=control'],
    ...[
      '-add-fd',
      'fd=@console@,set=1',
      '-chardev',
      'file,id=console,path=/dev/fdset/1,append=on',
      '-serial',
      'chardev:console',
    ],
    ...['-object', '{"qom-type":"rng-builtin","id":"rng"}'],
    ...device('virtio-rng', { rng: 'rng' }),
    // Without reporting of free pages: QEMU gives them back by punching holes into the file that the memory is mapped
    // from, which clones share.
    ...device('virtio-balloon', { id: 'balloon', 'deflate-on-oom': true }),
    ...device('virtio-serial', { id: 'serial', max_ports: 2 }),
    ...['-chardev', 'socket,id=guest,fd=@guest@,server=on,wait=off'],
    ...[
      '-device',
      JSON.stringify({ driver: 'virtserialport', bus: 'serial.0', nr: 1, chardev: 'guest', name: guestPort }),
    ],
    ...spec.disks.flatMap((disk) => [
      ...['-blockdev', JSON.stringify(blockNode(disk))],
      ...device('virtio-blk', {
        id: deviceId(disk.name),
        drive: blockNodeName(disk.name),
        serial: (disk.serial ?? disk.name).slice(0, 20),
      }),
    ]),
    ...spec.nics.flatMap((nic, index) => [
      ...['-netdev', JSON.stringify(netBackend(nic, index))],
      ...device('virtio-net', { id: `nic-${nic.name}`, netdev: `net${index}`, mac: nic.mac }),
    ]),
  ];
}

/** The qdev id of a disk's device. */
export function deviceId(disk: string): string {
  return `disk-${disk}`;
}

/** The name of a disk's first block node; at most 31 characters are allowed. */
function blockNodeName(disk: string): string {
  return `node-${disk}`.slice(0, 31);
}

/** A disk's block node: `-blockdev` and the QMP command `blockdev-add` take the same. */
export function blockNode(disk: EngineDisk, nodeName = blockNodeName(disk.name)): Record<string, unknown> {
  return {
    driver: disk.format,
    'node-name': nodeName,
    'read-only': disk.readOnly,
    // The host's page cache is used, and a flush by the guest reaches the disk.
    cache: { direct: false, 'no-flush': false },
    discard: disk.readOnly ? 'ignore' : 'unmap',
    ...(disk.readOnly ? {} : { 'detect-zeroes': 'unmap' }),
    file: { driver: 'file', filename: disk.path, discard: disk.readOnly ? 'ignore' : 'unmap' },
  };
}

/**
 * The processor that guests see without KVM. Translated, a string instruction moves byte by byte: kernels and programs that
 * are told it is fast copy slowly.
 */
export const translatedCpu = 'max,la57=off,svm=off,erms=off,fsrm=off';

export function machineOptions(machine: 'microvm' | 'q35'): string {
  // Linux looks for the microvm's devices in ACPI tables. It needs ACPI to power off, too. Without the clock chip and the
  // timer it waits a second and more for each of them at boot. One interrupt controller has the slots that are used.
  const options =
    machine === 'microvm'
      ? ['microvm', 'acpi=on', 'pic=on', 'pit=on', 'rtc=on', 'isa-serial=on', 'pcie=off', 'usb=off', 'ioapic2=off']
      : ['q35', 'usb=off', 'sata=off', 'smbus=off', 'vmport=off', 'graphics=off'];
  return [...options, 'dump-guest-core=off', 'memory-backend=mem', 'suppress-vmdesc=on'].join(',');
}

function memoryBackend(spec: EngineVmSpec, host: QemuHost): Record<string, unknown> {
  const size = spec.memoryMiB * 1024 * 1024;
  if (!host.incoming) return { 'qom-type': 'memory-backend-ram', id: 'mem', size };
  const path = `/proc/self/fd/${memoryDescriptor}`;
  return { 'qom-type': 'memory-backend-file', id: 'mem', size, 'mem-path': path, share: false };
}

function incoming(host: QemuHost): string[] {
  if (!host.incoming) return [];
  return [
    ...['-S', '-incoming', 'defer'],
    // The state is saved by itself, without what a whole migration puts before it.
    ...['-global', 'migration.send-configuration=off'],
    // The addresses that the guest has now are not those it will have.
    ...['-global', 'migration.announce-rounds=0'],
  ];
}

function kernelCommandLine(spec: EngineVmSpec, host: QemuHost): string {
  // Without KVM there is no clock to calibrate the counter with, and a kernel that guesses may hang.
  const clock =
    host.acceleration === 'tcg' && host.tscKhz !== null ? [`tsc_early_khz=${host.tscKhz}`, 'tsc=reliable'] : [];
  // Barriers against speculation guard a processor's own; to translated code they are a detour at each indirect call.
  const translated = host.acceleration === 'tcg' ? ['mitigations=off'] : [];
  return ['console=ttyS0', 'panic=-1', ...clock, ...translated, ...spec.kernelArgs].join(' ');
}

function netBackend(nic: EngineNic, index: number): Record<string, unknown> {
  const id = `net${index}`;
  if (nic.backend.kind === 'tap') return { type: 'tap', id, fd: `@tap${index}@` };
  return { type: 'user', id, restrict: nic.backend.restrict };
}

function isUuid(id: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id);
}
