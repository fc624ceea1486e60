import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitFiles, parseMountInfo } from './cgroup.ts';

const v1 = [
  '30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct',
  '31 25 0:27 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory',
  '32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd',
].join('\n');
const v2 = '33 25 0:29 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate';

test('controllers are found where they are', () => {
  const none = () => '';
  const all = () => 'cpuset cpu io memory pids\n';
  assert.equal(parseMountInfo('22 1 8:1 / / rw - ext4 /dev/sda1 rw\n', none), null);
  assert.deepEqual(parseMountInfo(v1, none), {
    version: 1,
    cpu: '/sys/fs/cgroup/cpu,cpuacct',
    memory: '/sys/fs/cgroup/memory',
  });
  assert.deepEqual(parseMountInfo(v2, all), { version: 2, cpu: '/sys/fs/cgroup', memory: '/sys/fs/cgroup' });
  assert.deepEqual(
    parseMountInfo(v2, () => 'memory'),
    { version: 2, cpu: null, memory: '/sys/fs/cgroup' },
  );
  assert.equal(parseMountInfo(v2, none), null);
  // A hybrid host: version 2 is mounted, the controllers are in version 1.
  assert.equal(parseMountInfo(`${v1}\n${v2}`, none)?.version, 1);
});

test('limits are written in the words of each version', () => {
  assert.deepEqual(limitFiles(2, { cpuPercent: 150, memoryBytes: 1024 }), {
    cpu: [['cpu.max', '150000 100000']],
    memory: [['memory.max', '1024']],
  });
  assert.deepEqual(limitFiles(2, { cpuPercent: null, memoryBytes: null }), {
    cpu: [['cpu.max', 'max 100000']],
    memory: [['memory.max', 'max']],
  });
  assert.deepEqual(limitFiles(1, { cpuPercent: 0.1, memoryBytes: null }), {
    cpu: [
      ['cpu.cfs_period_us', '100000'],
      ['cpu.cfs_quota_us', '1000'],
    ],
    memory: [['memory.limit_in_bytes', '-1']],
  });
});
