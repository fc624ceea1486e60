import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { pino } from 'pino';
import type { VmEvent } from './model.ts';
import { Records } from './records.ts';
import { sampleVm } from './testing/sample-vm.ts';

describe('records', () => {
  const records = new Records(pino({ level: 'silent' }));
  for (const [n, tenant] of [
    [1, 'a'],
    [2, 'b'],
    [3, 'a'],
  ] as const)
    records.put(sampleVm(n, { tenant }));
  const idsOf = (tenant: string) => records.listOf(tenant).map(({ id }) => id);

  it('are listed for their own tenant only, as they are now', () => {
    assert.deepEqual([idsOf('a'), idsOf('b'), idsOf('')], [['vm-1', 'vm-3'], ['vm-2'], []]);
    assert.equal(records.listOf('a'), records.listOf('a'));
    records.put(sampleVm(4, { tenant: 'a' }));
    records.delete('vm-1');
    assert.deepEqual(idsOf('a'), ['vm-3', 'vm-4']);
  });

  it('are given to their own tenant only', () => {
    assert.equal(records.getOf('vm-2', 'b').id, 'vm-2');
    assert.throws(() => records.getOf('vm-2', 'a'), { code: 'vm_not_owned' });
    assert.throws(() => records.getOf('vm-2', ''), { code: 'vm_not_owned' });
    assert.throws(() => records.getOf('vm-9', 'a'), { code: 'vm_not_found' });
  });

  it('say in events whose VM it is', () => {
    const events: VmEvent[] = [];
    const unsubscribe = records.subscribe((event) => events.push(event));
    records.emit('vm.stopped', records.get('vm-2'));
    unsubscribe();
    records.emit('vm.stopped', records.get('vm-3'));
    assert.deepEqual(
      events.map(({ vmId, tenant }) => [vmId, tenant]),
      [['vm-2', 'b']],
    );
  });
});
