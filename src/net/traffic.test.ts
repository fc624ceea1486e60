import assert from 'node:assert/strict';
import { it } from 'node:test';
import { parseTraffic } from './traffic.ts';

const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
berth0-2: 1500      10    0    1    0     0          0         0     2500      20    0    0    0     0       0          0
berth0-22: 7       8    0    1    0     0          0         0     9       10    0    0    0     0       0          0
`;

it('traffic is what the guest received and sent, of the taps that are there', () => {
  assert.deepEqual(
    [...parseTraffic(table, new Set(['berth0-2', 'berth0-3']))],
    [['berth0-2', { rxBytes: 2500, rxPackets: 20, txBytes: 1500, txPackets: 10 }]],
  );
});
