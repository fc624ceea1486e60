import { Empty, field, type MessageOf, message, repeated } from '../../api/prpc/message.ts';
import { rpc } from '../../api/prpc/service.ts';

/** Package `guest_api`: what the host asks the VM. `guest_api.proto` says the same. */

const name = (type: string) => `guest_api.${type}`;

const GuestInfo = message(name('GuestInfo'), {
  version: field(1, 'string'),
  app_id: field(2, 'bytes'),
  instance_id: field(3, 'bytes'),
  app_cert: field(4, 'string'),
  tcb_info: field(5, 'string'),
  device_id: field(6, 'bytes'),
});

const DiskInfo = message(name('DiskInfo'), {
  name: field(1, 'string'),
  mount_point: field(2, 'string'),
  total_size: field(3, 'uint64'),
  free_size: field(5, 'uint64'),
});

const SystemInfo = message(name('SystemInfo'), {
  os_name: field(1, 'string'),
  os_version: field(2, 'string'),
  kernel_version: field(3, 'string'),
  cpu_model: field(4, 'string'),
  num_cpus: field(5, 'uint32'),
  total_memory: field(6, 'uint64'),
  available_memory: field(7, 'uint64'),
  used_memory: field(8, 'uint64'),
  free_memory: field(9, 'uint64'),
  total_swap: field(10, 'uint64'),
  used_swap: field(11, 'uint64'),
  free_swap: field(12, 'uint64'),
  uptime: field(13, 'uint64'),
  loadavg_one: field(14, 'uint32'),
  loadavg_five: field(15, 'uint32'),
  loadavg_fifteen: field(16, 'uint32'),
  disks: repeated(17, DiskInfo),
});
/** Sizes in bytes, uptime in seconds, load averages times 100. */
export type SystemInfo = MessageOf<typeof SystemInfo>;

const IpAddress = message(name('IpAddress'), { address: field(1, 'string'), prefix: field(2, 'uint32') });

const Gateway = message(name('Gateway'), { address: field(1, 'string') });

const Interface = message(name('Interface'), {
  name: field(1, 'string'),
  addresses: repeated(2, IpAddress),
  rx_bytes: field(3, 'uint64'),
  tx_bytes: field(4, 'uint64'),
  rx_errors: field(5, 'uint64'),
  tx_errors: field(6, 'uint64'),
});

const NetworkInformation = message(name('NetworkInformation'), {
  dns_servers: repeated(1, 'string'),
  gateways: repeated(2, Gateway),
  interfaces: repeated(3, Interface),
  wg_info: field(4, 'string'),
});
export type NetworkInformation = MessageOf<typeof NetworkInformation>;

const Container = message(name('Container'), {
  id: field(1, 'string'),
  names: repeated(2, 'string'),
  image: field(3, 'string'),
  image_id: field(4, 'string'),
  created: field(6, 'int64'),
  state: field(7, 'string'),
  status: field(8, 'string'),
});
/** `created` in seconds since the epoch; names keep Docker's leading slash. */
export type Container = MessageOf<typeof Container>;

const ListContainersResponse = message(name('ListContainersResponse'), { containers: repeated(1, Container) });

/** The service of the host-facing listener. */
export const GuestApi = {
  Info: rpc(Empty, GuestInfo),
  SysInfo: rpc(Empty, SystemInfo),
  NetworkInfo: rpc(Empty, NetworkInformation),
  ListContainers: rpc(Empty, ListContainersResponse),
  Shutdown: rpc(Empty, Empty),
};
