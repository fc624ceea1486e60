import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkInfo, parseGateways } from './network-info.ts';

test('gateways are those of default routes', () => {
  const routes = [
    'Iface\tDestination\tGateway \tFlags',
    'eth0\t00000000\t010011AC\t0003',
    'eth1\t00000000\t010011AC\t0003',
    'eth0\t000011AC\t00000000\t0001',
    'tun0\t00000000\t00000000\t0001',
    'broken',
    '',
  ];
  assert.deepEqual(parseGateways(routes.join('\n')), ['172.17.0.1']);
});

test('this machine', async () => {
  const { wg_info: tunnel, interfaces } = await networkInfo();
  assert.equal(typeof tunnel, 'string');
  for (const { name, rx_bytes: received } of interfaces) {
    assert.match(name, /^(?:dstack-wg0|enp|eth)/);
    assert.ok(received >= 0n);
  }
});
