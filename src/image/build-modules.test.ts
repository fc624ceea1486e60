import assert from 'node:assert/strict';
import { test } from 'node:test';
import { selectModules } from './build-modules.ts';

const dependencies = `kernel/net/failover.ko:
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/failover.ko
kernel/drivers/net/net_failover.ko: kernel/net/failover.ko
kernel/drivers/net/veth.ko:
kernel/fs/xfs/xfs.ko: kernel/lib/libcrc32c.ko
`;

test('selectModules takes what begins so and what that needs, once', () => {
  assert.deepEqual(selectModules(dependencies, ['drivers/net/virtio_net', 'drivers/net/net_failover']), [
    'kernel/drivers/net/net_failover.ko',
    'kernel/drivers/net/virtio_net.ko',
    'kernel/net/failover.ko',
  ]);
  assert.deepEqual(selectModules(dependencies, ['fs/']), ['kernel/fs/xfs/xfs.ko', 'kernel/lib/libcrc32c.ko']);
  assert.deepEqual(selectModules(dependencies, []), []);
});
