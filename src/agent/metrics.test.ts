import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderMetrics } from './metrics.ts';
import { systemInfo } from './system-info.ts';

test('every metric, with its labels escaped', () => {
  const text = renderMetrics({
    os_name: 'Debian "GNU"\\Linux\n',
    os_version: '12',
    kernel_version: '6.1',
    cpu_model: 'X @2000 MHz',
    num_cpus: 2,
    total_memory: 4096n,
    available_memory: 3000n,
    used_memory: 1096n,
    free_memory: 1000n,
    total_swap: 0n,
    used_swap: 0n,
    free_swap: 0n,
    uptime: 7n,
    loadavg_one: 150,
    loadavg_five: 75,
    loadavg_fifteen: 10,
    disks: [
      { name: '/dev/vda', mount_point: '/', total_size: 3000n, free_size: 1000n },
      { name: 'none', mount_point: '/empty', total_size: 0n, free_size: 0n },
    ],
  });
  assert.deepEqual(
    text.split('\n').filter((line) => !line.startsWith('#')),
    [
      'system_os_name{os_name="Debian \\"GNU\\"\\\\Linux\\n"} 1',
      'system_os_version{os_version="12"} 1',
      'system_kernel_version{kernel_version="6.1"} 1',
      'system_cpu_model{cpu_model="X @2000 MHz"} 1',
      'system_num_cpus 2',
      'system_memory_total 4096',
      'system_memory_available 3000',
      'system_memory_used 1096',
      'system_memory_free 1000',
      'system_swap_total 0',
      'system_swap_used 0',
      'system_swap_free 0',
      'system_uptime 7',
      'system_load_average_1m 150',
      'system_load_average_5m 75',
      'system_load_average_15m 10',
      'disk_total_size{name="/dev/vda",mount_point="/"} 3000',
      'disk_total_size{name="none",mount_point="/empty"} 0',
      'disk_free_size{name="/dev/vda",mount_point="/"} 1000',
      'disk_free_size{name="none",mount_point="/empty"} 0',
      'disk_used_size{name="/dev/vda",mount_point="/"} 2000',
      'disk_used_size{name="none",mount_point="/empty"} 0',
      'disk_usage_percentage{name="/dev/vda",mount_point="/"} 66.66',
      'disk_usage_percentage{name="none",mount_point="/empty"} 0',
      '',
    ],
  );
});

test('this machine', async () => {
  const system = await systemInfo(['/', '/proc', '/nowhere']);
  assert.ok(system.total_memory > 64n * 1024n * 1024n);
  assert.equal(system.used_memory, system.total_memory - system.available_memory);
  assert.ok(system.num_cpus >= 1);
  assert.deepEqual(
    system.disks.map((disk) => disk.mount_point),
    ['/', '/proc'],
  );
  assert.ok(system.disks[0]!.free_size <= system.disks[0]!.total_size);
});
