import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import { type Json, openTestApi, smallConfig } from './testing/test-api.ts';

/** A collector that keeps the spans it is sent. */
async function openCollector() {
  const spans: Json[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString('utf8'));
      for (const { scopeSpans } of resourceSpans) for (const scope of scopeSpans) spans.push(...scope.spans);
      response.setHeader('content-type', 'application/json');
      response.end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    spans,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`,
    [Symbol.dispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

const attribute = (span: Json, key: string) =>
  span.attributes.find((item: Json) => item.key === key)?.value.stringValue;

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
