import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { pino } from 'pino';
import type { Health } from './health.ts';
import { ApiMetrics } from './metrics.ts';
import { OpenPages } from './open-pages.ts';
import type { HealthCheck } from './ports.ts';
import type { WireRequest, WireResponse } from './server.ts';
import { openTestApi, smallConfig } from './testing/test-api.ts';

const check = (name: string, vital: boolean, error?: string): HealthCheck => ({
  name,
  vital,
  async run() {
    if (error !== undefined) throw new Error(error);
  },
});

describe('/health', () => {
  for (const [status, http, checks] of [
    ['healthy', 200, [check('backend_ping', true), check('store', true)]],
    ['degraded', 200, [check('backend_ping', true), check('probe', false, 'secret')]],
    ['unhealthy', 503, [check('backend_ping', true, 'secret'), check('store', true)]],
  ] as const) {
    it(`is ${status}, without a token`, async () => {
      await using api = await openTestApi({ health: { checks, backendCheck: 'backend_ping' }, version: '1.2.3' });
      const response = await fetch(`${api.url}/health`);
      const text = await response.text();
      const report = JSON.parse(text);
      assert.deepEqual([response.status, report.status, report.version], [http, status, '1.2.3']);
      assert.deepEqual(report.backend, { type: 'fake', status: status === 'unhealthy' ? 'unhealthy' : 'healthy' });
      assert.deepEqual(Object.keys(report.system), ['uptime_seconds', 'memory_usage_mb', 'cpu_usage_percent']);
      assert.equal(typeof report.checks.backend_ping.duration_ms, 'number');
      assert.equal(new Date(report.timestamp).toISOString(), report.timestamp);
      assert.ok(!text.includes('secret'), 'reasons are for the log');
    });
  }

  it('has no other method', async () => {
    await using api = await openTestApi();
    assert.equal((await fetch(`${api.url}/health`, { method: 'POST' })).status, 405);
    assert.equal((await fetch(`${api.url}/health`, { method: 'HEAD' })).status, 200);
  });
});

/** Series of an exposition by name and labels. */
async function scrape(url: string): Promise<Map<string, number>> {
  const response = await fetch(`${url}/metrics`);
  assert.equal(response.status, 200);
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

describe('/metrics', () => {
  it('counts calls and what VMs use, by customer and VM', async () => {
    await using api = await openTestApi();
    const b = { authorization: 'Bearer dev_customer_b' };
    await api.call('CreateVm', { vm_id: 'v', config: smallConfig });
    await api.call('CreateVm', { vm_id: 'w', config: smallConfig }, b);
    await api.call('CreateVm', {}, b);
    await api.call('BootVm', { vm_id: 'v' });
    await api.call('ShutdownVm', { vm_id: 'w', force: true }, b);
    const series = await scrape(api.url);
    const value = (name: string) => series.get(name);
    assert.equal(value('unkey_metald_vm_create_requests_total{backend="fake",customer_id="b"}'), 2);
    assert.equal(value('unkey_metald_vm_create_success_total{backend="fake",customer_id="b"}'), 1);
    assert.equal(
      value('unkey_metald_vm_create_failures_total{backend="fake",customer_id="b",error_type="invalid_argument"}'),
      1,
    );
    assert.equal(
      value(
        'unkey_metald_vm_shutdown_failures_total{backend="fake",customer_id="b",force="true",error_type="failed_precondition"}',
      ),
      1,
    );
    assert.equal(value('unkey_metald_vm_boot_duration_seconds_count{backend="fake"}'), 1);
    assert.equal(value('unkey_metald_active_vms{backend="fake"}'), 1);
    assert.equal(value('unkey_metald_vms{backend="fake",customer_id="a",state="running"}'), 1);
    assert.ok((value('unkey_metald_vm_cpu_seconds_total{vm_id="v",customer_id="a"}') ?? 0) > 0);
    assert.equal(
      value('rpc_server_requests_total{rpc_method="/vmprovisioner.v1.VmService/BootVm",rpc_status="ok"}'),
      1,
    );
    assert.equal(value('unkey_metald_backend_errors_total{backend="fake",operation="create"}'), 0);
    assert.ok(series.has('process_cpu_seconds_total') && series.has('nodejs_heap_size_used_bytes'));
  });

  it('counts failures of the host apart', async () => {
    await using api = await openTestApi();
    await api.call('CreateVm', { vm_id: 'v', config: smallConfig });
    api.host.failing.add('start');
    assert.equal((await api.call('BootVm', { vm_id: 'v' })).status, 500);
    const series = await scrape(api.url);
    assert.equal(series.get('unkey_metald_backend_errors_total{backend="fake",operation="boot"}'), 1);
    for (const name of ['process_create_requests', 'process_create_failures', 'jailer_start_failures'])
      assert.equal(series.get(`unkey_metald_${name}_total`), 1, name);
    assert.equal(series.get('unkey_metald_process_create_success_total'), 0);
  });

  it('counts processes whoever had them started', async () => {
    await using api = await openTestApi();
    const { id } = await api.vms.create({ cpus: 1, memoryMiB: 64, egress: { outbound: false, allow: [] } });
    await api.call('CreateVm', { vm_id: 'v', config: smallConfig });
    await api.call('BootVm', { vm_id: 'v' });
    await api.vms.remove(id);
    const series = await scrape(api.url);
    assert.deepEqual(
      ['create_requests', 'create_success', 'create_failures', 'cleanups'].map((name) =>
        series.get(`unkey_metald_process_${name}_total`),
      ),
      [2, 2, 0, 1],
    );
  });

  it('adds up where whoever asks must not see customers', async () => {
    await using api = await openTestApi({ metricsDetail: 'aggregate' });
    for (const customer of ['alpha', 'beta'])
      await api.call(
        'CreateVm',
        { vm_id: `vm-of-${customer}`, config: smallConfig },
        { authorization: `Bearer dev_customer_${customer}` },
      );
    await api.call('BootVm', { vm_id: 'vm-of-alpha' }, { authorization: 'Bearer dev_customer_alpha' });
    const text = await (await fetch(`${api.url}/metrics`)).text();
    assert.doesNotMatch(text, /alpha|beta/);
    const series = await scrape(api.url);
    assert.equal(series.get('unkey_metald_vm_create_requests_total{backend="fake"}'), 2);
    assert.ok((series.get('unkey_metald_vm_cpu_seconds_total') ?? 0) > 0);
    assert.equal(series.get('unkey_metald_vm_create_duration_seconds_bucket{le="+Inf",backend="fake"}'), 2);
  });

  it('is written once for all who ask meanwhile', async () => {
    let looks = 0;
    const vmMetrics = { refresh: async () => void looks++, close() {} };
    const health = {} as Health;
    const metrics = new ApiMetrics('fake', '0.0.0');
    const log = pino({ level: 'silent' });
    const pages = new OpenPages({ health, metrics, vmMetrics, detail: 'full', log });
    const ask = () => {
      const { promise, resolve } = Promise.withResolvers<string>();
      pages.serve(
        '/metrics',
        { method: 'GET' } as WireRequest,
        { writeHead() {}, end: resolve } as unknown as WireResponse,
      );
      return promise;
    };
    const texts = await Promise.all([ask(), ask(), ask()]);
    assert.deepEqual([looks, new Set(texts).size], [1, 1]);
    await ask();
    assert.equal(looks, 2);
  });

  it('is not there where it is switched off', async () => {
    await using api = await openTestApi({ metricsDetail: 'off' });
    assert.equal((await fetch(`${api.url}/metrics`)).status, 404);
  });

  it('has every name that the dashboards and alerts of metald ask for', async () => {
    await using api = await openTestApi();
    const text = await (await fetch(`${api.url}/metrics`)).text();
    const declared = new Set(Array.from(text.matchAll(/^# TYPE (\S+)/gm), ([, name]) => name));
    const operations = ['create', 'boot', 'shutdown', 'delete', 'pause', 'resume', 'reboot'];
    const names = [
      ...operations.flatMap((name) =>
        ['requests', 'success', 'failures'].map((end) => `unkey_metald_vm_${name}_${end}_total`),
      ),
      ...operations.slice(0, 4).map((name) => `unkey_metald_vm_${name}_duration_seconds`),
      ...['info', 'list', 'metrics'].map((name) => `unkey_metald_vm_${name}_requests_total`),
      ...['create_requests', 'create_success', 'create_failures', 'terminations', 'cleanups'].map(
        (name) => `unkey_metald_process_${name}_total`,
      ),
      ...['requests', 'success', 'failures'].map((name) => `unkey_metald_jailer_start_${name}_total`),
      'unkey_metald_active_vms',
      'unkey_metald_backend_errors_total',
      'unkey_metald_api_request_duration_seconds',
      'unkey_metald_vm_health_checks_total',
      'unkey_metald_vm_health_check_failures_total',
      'rpc_server_requests_total',
      'rpc_server_active_requests',
      'rpc_server_panics_total',
      'rpc_server_request_duration_seconds',
      'metald_billing_batches_sent_total',
      'metald_billing_batch_send_duration_seconds',
      'metald_heartbeat_sent_total',
      'metald_metrics_collected_total',
      'metald_metrics_collection_duration_seconds',
      'metald_vm_metrics_requests_total',
      'vm_create_total',
      'vm_delete_total',
      'vm_boot_total',
      'vm_error_total',
      'http_requests_total',
      'http_request_duration_seconds',
      'log_entries_total',
      'target_info',
    ];
    assert.deepEqual(
      names.filter((name) => !declared.has(name)),
      [],
    );
  });
});
