import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { JsonValue } from '@bufbuild/protobuf';
import { BerthError } from '../../common/errors.ts';
import { type CreateVmOptions, decodeCreateVm } from './create-vm.ts';
import { CreateVmRequestSchema } from './gen/vmprovisioner/v1/vm_pb.js';
import { readJson } from './json.ts';
import { openTestApi, smallConfig } from './testing/test-api.ts';

const image = { id: 'img-1', name: 'debian' };
const options: CreateVmOptions = {
  unsupported: 'refuse',
  allowIps: ['0.0.0.0/0'],
  images: { find: (name: string) => (name === image.name ? (image as never) : null) },
};

function decode(config: JsonValue, change: Partial<CreateVmOptions> = {}) {
  return decodeCreateVm(readJson(CreateVmRequestSchema, JSON.stringify({ config })), 'acme', { ...options, ...change });
}

const cpu = { vcpu_count: 2 };
const memory = { size_bytes: 1073741824 };
const boot = { kernel_path: '/assets/vmlinux' };
const storage = [{ path: '/assets/rootfs.ext4' }];
const base = { cpu, memory, boot, storage };

describe('a configuration', () => {
  it('with a kernel of its own becomes a VM that needs no guest agent', () => {
    const { id, apiRecord, ...vm } = decode({
      ...base,
      boot: { ...boot, kernel_args: 'console=ttyS0', initrd_path: '/assets/initrd' },
      storage: [
        { device_id: 'data', path_on_host: '/assets/data.img', is_read_only: true },
        { device_id: 'root', path_on_host: '/assets/rootfs.ext4', is_root_device: true },
      ],
      console: { type: 'VIRTIO_CONSOLE', output_file: '/tmp/vm-console.log' },
      metadata: { name: 'my-vm', project: 'test' },
    });
    assert.match(id ?? '', /^ud-[0-9a-f]{16}$/);
    assert.equal(JSON.parse(apiRecord ?? '').metald.storage[1].id, 'root');
    assert.deepEqual(vm, {
      name: 'my-vm',
      tenant: 'acme',
      cpus: 2,
      memoryMiB: 1024,
      boot: { kernel: '/assets/vmlinux', initrd: '/assets/initrd' },
      guestChannel: 'optional',
      kernelArgs: 'console=ttyS0',
      disks: [
        { name: 'data', source: { asset: '/assets/data.img' }, readOnly: true, root: false },
        { name: 'root', source: { asset: '/assets/rootfs.ext4' }, readOnly: false, root: true },
      ],
      nics: [],
      egress: { outbound: true, allow: ['0.0.0.0/0'] },
      labels: { name: 'my-vm', project: 'test' },
      consoleFile: 'vm-console.log',
      start: false,
    });
  });

  it('with the kernel of an image becomes a VM of that image', () => {
    const {
      imageId,
      boot: own,
      disks,
    } = decode({
      cpu,
      memory,
      boot: { kernel_path: 'image:debian' },
      storage: [{ path: 'image:debian' }, { id: 'data', path: '/assets/data.img' }],
    });
    assert.deepEqual([imageId, own], ['img-1', undefined]);
    assert.deepEqual(disks, [{ name: 'data', source: { asset: '/assets/data.img' }, readOnly: false, root: false }]);
  });

  for (const spelling of ['read_only', 'readOnly', 'is_read_only', 'isReadOnly', 'readonly'])
    it(`says by ${spelling} that a device is not written to, and is given back with the names of proto and reference`, () => {
      const { disks, apiRecord } = decode({
        ...base,
        storage: [...storage, { path: '/assets/data.img', [spelling]: true }],
      });
      assert.deepEqual(
        disks?.map(({ readOnly }) => readOnly),
        [false, true],
      );
      const { id: _, ...device } = JSON.parse(apiRecord ?? '').metald.storage[1];
      const path = '/assets/data.img';
      assert.deepEqual(device, { path, pathOnHost: path, readOnly: true, isReadOnly: true });
    });

  it('of a network becomes interfaces, with names made up where there are none', () => {
    const { nics } = decode({
      ...base,
      network: [
        {
          interface_id: 'front',
          type: 'TAP',
          guest_mac: 'auto',
          host_ipv4: { address: '192.168.1.1', prefix_length: 24, gateway: '192.168.1.254' },
          guest_ipv4: { address: '192.168.1.100', prefix_length: 24 },
          rate_limit: { bandwidth_bytes_per_second: 104857600, burst_bytes: 1048576, refill_time_millis: 100 },
        },
        {
          mac_address: '02:00:00:00:00:0A',
          mode: 'NETWORK_MODE_IPV6_ONLY',
          ipv6_config: {
            address: '2001:db8::100',
            prefix_length: 64,
            gateway: '2001:db8::1',
            dns_servers: ['2001:db8::53'],
          },
          tx_rate_limit: { bandwidth: '1000000', refill_time: '100' },
        },
        { ipv4_config: { address: '10.0.0.5', netmask: '255.255.240.0', gateway: '10.0.0.1' } },
        { ipv4_config: { dhcp: true }, rx_rate_limit: {} },
      ],
    });
    const limit = { bytesPerSecond: 104857600, burstBytes: 1048576 };
    assert.deepEqual(nics, [
      {
        name: 'front',
        ipv4: { address: '192.168.1.100', prefix: 24, gateway: '192.168.1.1' },
        rxLimit: limit,
        txLimit: limit,
      },
      {
        name: 'eth1',
        mac: '02:00:00:00:00:0A',
        families: 'ipv6',
        ipv6: { address: '2001:db8::100', prefix: 64, gateway: '2001:db8::1' },
        nameservers: ['2001:db8::53'],
        txLimit: { bytesPerSecond: 1000000, burstBytes: 100000 },
      },
      { name: 'eth2', ipv4: { address: '10.0.0.5', prefix: 20, gateway: '10.0.0.1' } },
      { name: 'eth3' },
    ]);
  });

  const nic = (network: JsonValue) => ({ ...base, network: [network] });
  for (const [message, config] of [
    ['cpu configuration is required', { memory, boot, storage }],
    ['memory configuration is required', { cpu, boot, storage }],
    ['boot configuration is required', { cpu, memory, storage }],
    ['vcpu_count must be greater than 0', { ...base, cpu: {} }],
    ['vcpu_count must be greater than 0', { ...base, cpu: { vcpu_count: -1 } }],
    ['vcpu_count must be at most 32', { ...base, cpu: { vcpu_count: 33 } }],
    [
      'max_vcpu_count must be greater than or equal to vcpu_count',
      { ...base, cpu: { vcpu_count: 2, max_vcpu_count: 1 } },
    ],
    ['cpu_template must be T2, T2S, T2CL, T2A or V1N1', { ...base, cpu: { vcpu_count: 2, cpu_template: 'T9' } }],
    ['memory size_bytes must be greater than 0', { ...base, memory: {} }],
    ['memory size_bytes must be a whole number of MiB', { ...base, memory: { size_bytes: 1e9 } }],
    ['memory size_bytes must be at least 128 MiB', { ...base, memory: { size_bytes: 67108864 } }],
    ['kernel_path is required', { ...base, boot: {} }],
    ['at least one storage device is required', { ...base, storage: [] }],
    ['storage device 1 path is required', { ...base, storage: [...storage, { id: 'x' }] }],
    [
      'only one storage device can be the root device',
      {
        ...base,
        storage: [
          { path: 'a', is_root_device: true },
          { path: 'b', is_root_device: true },
        ],
      },
    ],
    [
      'storage device 0 interface_type must be virtio-blk, or empty',
      { ...base, storage: [{ path: 'a', interface_type: 'ide' }] },
    ],
    [
      'storage device 0: id and device_id must not both be given',
      { ...base, storage: [{ id: 'a', device_id: 'b', path: 'c' }] },
    ],
    [
      'initrd_path cannot be used with the kernel of an image',
      { ...base, boot: { kernel_path: 'image:debian', initrd_path: 'x' } },
    ],
    [
      'the root device of a VM with the kernel of an image must be image:debian',
      { ...base, boot: { kernel_path: 'image:debian' } },
    ],
    ['Image not found', { ...base, boot: { kernel_path: 'image:none' }, storage: [] }],
    ['console type must be serial or VIRTIO_CONSOLE', { ...base, console: { type: 'vga' } }],
    ['network interface 0: type must be TAP or virtio-net', nic({ type: 'vhost' })],
    ['network interface 0: mode is unknown', nic({ mode: 9 })],
    [
      'network interface 0: netmask must be an IPv4 netmask',
      nic({ ipv4_config: { address: '10.0.0.2', netmask: '255.0.255.0' } }),
    ],
    [
      'network interface 0: an address cannot be given with dhcp',
      nic({ ipv4_config: { address: '10.0.0.2', dhcp: true } }),
    ],
    [
      'network interface 0: an address cannot be given with slaac',
      nic({ ipv6_config: { address: '::2', slaac: true } }),
    ],
    [
      'network interface 0: the address of the host needs one of the guest',
      nic({ host_ipv4: { address: '10.0.0.1' } }),
    ],
    ['network interface 0: rate limits must not be negative', nic({ rx_rate_limit: { bandwidth: -1 } })],
    [
      'network interface 0: rate_limit and rx_rate_limit or tx_rate_limit must not both be given',
      nic({ rate_limit: {}, rx_rate_limit: {} }),
    ],
  ] as const) {
    it(`is refused: ${message} (${JSON.stringify(config).length})`, () => {
      assert.throws(
        () => decode(config as JsonValue),
        (error) => error instanceof BerthError && error.message === message,
      );
    });
  }

  for (const [message, config] of [
    [
      'cpu topology is not supported but for one socket with vcpu_count cores of one thread',
      { ...base, cpu: { vcpu_count: 2, topology: { sockets: 2, cores_per_socket: 1, threads_per_core: 1 } } },
    ],
    ['cpu features: avx512 is not supported', { ...base, cpu: { vcpu_count: 2, features: { avx512: 'on' } } }],
    ['memory hotplug_enabled is not supported', { ...base, memory: { ...memory, hotplug_enabled: true } }],
    ['memory backing: hugepages is not supported', { ...base, memory: { ...memory, backing: { hugepages: '2M' } } }],
    ['boot boot_options: x is not supported', { ...base, boot: { ...boot, boot_options: { x: '' } } }],
    [
      'storage device 0: options: auto_build is not supported',
      { ...base, storage: [{ path: '/assets/rootfs.ext4', options: { auto_build: 'true' } }] },
    ],
    ['network interface 0: tap_device cannot be chosen', nic({ tap_device: 'tap0' })],
    ['network interface 0: options: mtu is not supported', nic({ options: { mtu: '9000' } })],
    ['network interface 0: privacy_extensions are not supported', nic({ ipv6_config: { privacy_extensions: true } })],
    ['network interface 0: link_local cannot be chosen', nic({ ipv6_config: { link_local: 'fe80::1' } })],
    ['console input is not supported', { ...base, console: { input: '/dev/tty' } }],
  ] as const) {
    it(`that asks for what is not there is refused, or recorded where that is set: ${message}`, () => {
      const refused = (error: unknown) => error instanceof BerthError && error.message === message;
      assert.throws(() => decode(config as JsonValue), refused);
      const { apiRecord } = decode(config as JsonValue, { unsupported: 'record' });
      const given = readJson(CreateVmRequestSchema, JSON.stringify({ config }));
      const kept = readJson(CreateVmRequestSchema, JSON.stringify({ config: JSON.parse(apiRecord ?? '').metald }));
      assert.deepEqual(
        [kept.config?.cpu, kept.config?.memory, kept.config?.boot],
        [given.config?.cpu, given.config?.memory, given.config?.boot],
      );
    });
  }

  it('may say of everything that is optional what is so anyway', () => {
    const { cpus, memoryMiB } = decode({
      ...base,
      cpu: {
        vcpu_count: 2,
        max_vcpu_count: 4,
        topology: { sockets: 1, cores_per_socket: 2, threads_per_core: 1 },
        features: {},
        cpu_template: 'T2',
      },
      memory: { ...memory, hotplug_enabled: false, max_size_bytes: 2 * 1073741824, backing: {} },
      boot: { ...boot, initrd_path: '', boot_options: {} },
      storage: [{ ...storage[0], interface_type: 'virtio-blk', options: {} }],
      network: [
        { tap_device: '', options: {}, ipv6_config: { slaac: true, privacy_extensions: false, link_local: '' } },
      ],
      console: { enabled: true, input: '', console_type: 'serial' },
    });
    assert.deepEqual([cpus, memoryMiB], [2, 1024]);
  });
});

describe('what no VM of the host can be', () => {
  const mine = { ...smallConfig, storage: [{ path: 'image:test' }] };
  for (const [message, config] of [
    ['vcpu_count must be a whole number from 1 to 4', { ...mine, cpu: { vcpu_count: 32 } }],
    [
      'memory size_bytes in MiB must be a whole number from 64 to 1024',
      { ...mine, memory: { size_bytes: 1024 * 1024 ** 3 } },
    ],
    [
      'kernel_args must be at most 1024 printable ASCII characters',
      { ...mine, boot: { ...mine.boot, kernel_args: '\n' } },
    ],
    [
      'console output: the name of the file must be 1 to 64 letters, digits, ., - or _',
      { ...mine, console: { output: '/tmp/' } },
    ],
    [
      'metadata: entries must be at most 64',
      { ...mine, metadata: Object.fromEntries(Array.from({ length: 65 }, (_, n) => [n, ''])) },
    ],
    ['metadata: the key of an entry must be 1 to 256 bytes', { ...mine, metadata: { '': 'x' } }],
    [
      'network: the id of an interface must be 1 to 32 letters, digits, ., - or _',
      { ...mine, network: [{ id: 'a b' }] },
    ],
    ['network: two interfaces have the same id', { ...mine, network: [{ id: 'a' }, { id: 'a' }] }],
    [
      'storage: the id of a device must be 1 to 32 letters, digits, ., - or _',
      { ...mine, storage: [...mine.storage, { id: 'a b', path: 'image:test' }] },
    ],
    [
      'storage: two devices have the same id',
      { ...mine, storage: [...mine.storage, ...Array(2).fill({ id: 'a', path: 'image:test' })] },
    ],
  ] as const) {
    it(`is refused in the words of clients: ${message}`, async () => {
      await using api = await openTestApi();
      const { status, json } = await api.call('CreateVm', { config });
      assert.deepEqual([status, json.code, json.message], [400, 'invalid_argument', message]);
    });
  }
});
