/** Requests of metald's published reference and of its own tools. */

/** The reference's examples of networks: the host's addresses in them are this test's host's. */
export const ipv4Example = `{
  "interface_id": "eth0",
  "type": "TAP",
  "guest_mac": "auto",
  "host_ipv4": { "address": "192.168.1.1", "prefix_length": 24, "gateway": "192.168.1.254" },
  "guest_ipv4": { "address": "192.168.1.100", "prefix_length": 24 }
}`;
export const ipv6Example = `{
  "interface_id": "eth0",
  "type": "TAP",
  "guest_mac": "auto",
  "host_ipv6": { "address": "2001:db8:1::1", "prefix_length": 64, "gateway": "2001:db8:1::ffff" },
  "guest_ipv6": { "address": "2001:db8:1::100", "prefix_length": 64 }
}`;

/** The reference's example of CreateVm, without its comments. */
export const exampleConfig = `{
  "cpu": { "vcpu_count": 2, "cpu_template": "T2" },
  "memory": { "size_bytes": 1073741824 },
  "boot": {
    "kernel_path": "/assets/vmlinux-5.10",
    "kernel_args": "console=ttyS0 reboot=k panic=1",
    "initrd_path": "/assets/initrd"
  },
  "storage": [{
    "device_id": "rootfs",
    "path_on_host": "/assets/rootfs.ext4",
    "is_read_only": false,
    "is_root_device": true
  }],
  "network": [{
    "interface_id": "eth0",
    "type": "TAP",
    "guest_mac": "auto",
    "rate_limit": {
      "bandwidth_bytes_per_second": 104857600,
      "burst_bytes": 1048576,
      "refill_time_millis": 100
    }
  }],
  "console": { "type": "VIRTIO_CONSOLE", "output_file": "/tmp/vm-console.log" },
  "metadata": { "name": "my-vm", "project": "test" }
}`;

/** A VM of the sandbox image, in the names of the proto. */
export const smallConfig = {
  cpu: { vcpuCount: 1 },
  memory: { sizeBytes: '268435456' },
  boot: { kernelPath: 'image:sandbox' },
};

/** What templates of the original's own tools ask for, and no VM here is given. */
export const oldTemplate = {
  ...smallConfig,
  cpu: { vcpuCount: 1, topology: { sockets: 1, coresPerSocket: 1, threadsPerCore: 2 }, features: { aes: 'on' } },
  memory: { ...smallConfig.memory, hotplugEnabled: true, maxSizeBytes: '1073741824', backing: { type: 'hugepages' } },
  storage: [{ id: 'rootfs', path: 'image:sandbox', isRootDevice: true, options: { cache_type: 'Unsafe' } }],
  network: [{ id: 'eth0', interfaceType: 'virtio-net', tapDevice: 'tap0', options: { queues: '1' } }],
  console: { enabled: true, output: '/tmp/console.log', input: '/dev/null', consoleType: 'serial' },
};

/** Headers, or metadata, of a call with a token. */
export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
/** The same in development, for any customer. */
export const development = (customer: string) => bearer(`dev_customer_${customer}`);
