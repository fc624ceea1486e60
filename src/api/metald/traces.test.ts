import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { attribute, openCollector } from './testing/collector.ts';
import { openTestApi, smallConfig } from './testing/test-api.ts';

describe('traces', () => {
  it('have a span of each call, with how it ended, in the trace of the client', async () => {
    using collector = await openCollector();
    const trace = '0af7651916cd43dd8448eb211c80319c';
    const parent = 'b7ad6b7169203331';
    {
      await using api = await openTestApi({ tracesUrl: collector.url });
      const headers = { traceparent: `00-${trace}-${parent}-01` };
      assert.equal((await api.call('CreateVm', { vm_id: 'v', config: smallConfig }, headers)).status, 200);
      assert.equal((await api.call('PauseVm', { vm_id: 'v' }, { traceparent: 'nonsense' })).status, 412);
    }
    const [created, paused] = collector.spans;
    assert.deepEqual(
      [created.name, created.traceId, created.parentSpanId, created.status.code],
      ['vmprovisioner.v1.VmService/CreateVm', trace, parent, 0],
    );
    assert.deepEqual([attribute(created, 'customer_id'), attribute(created, 'vm_id')], ['a', 'v']);
    assert.deepEqual(
      [paused.name, paused.parentSpanId, paused.status],
      ['vmprovisioner.v1.VmService/PauseVm', undefined, { code: 2, message: 'failed_precondition' }],
    );
    assert.notEqual(paused.traceId, trace);
  });

  it('hold nothing up where nobody collects them', async () => {
    const api = await openTestApi({ tracesUrl: 'http://127.0.0.1:1/v1/traces' });
    assert.equal((await api.call('ListVms', {})).status, 200);
    await assert.doesNotReject(async () => api[Symbol.asyncDispose]());
  });
});
