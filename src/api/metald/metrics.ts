/** What the calls did, as Prometheus counts it: the names of metald's dashboards and alerts. */

import { Code, type ConnectError } from '@connectrpc/connect';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Finished } from './calls.ts';
import { codeName } from './errors.ts';

export type Operation = 'create' | 'boot' | 'shutdown' | 'delete' | 'pause' | 'resume' | 'reboot' | 'info' | 'list';

const changes = ['create', 'boot', 'shutdown', 'delete', 'pause', 'resume', 'reboot'] as const;
const reads = ['info', 'list'] as const;

/** Calls take from tenths of a millisecond to the minutes of a boot without acceleration. */
const secondsBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

/** Customers that are counted by name; those that come later are counted together. */
const maxCustomers = 1000;

/** Codes that say the host failed and not the request. */
const hostFailures = new Set<Code>([Code.Internal, Code.Unavailable, Code.DeadlineExceeded, Code.Unknown]);

export interface BeginCall {
  readonly operation: Operation;
  readonly path: string;
  readonly customer: string;
  readonly force: boolean;
}

type CallLabels = Record<string, string>;

export class ApiMetrics {
  readonly registry = new Registry();
  readonly #backend: string;
  readonly #customers = new Set<string>();
  readonly #requests = new Map<Operation, Counter>();
  readonly #successes = new Map<Operation, Counter>();
  readonly #failures = new Map<Operation, Counter>();
  readonly #durations = new Map<Operation, Histogram>();
  readonly #rpcRequests: Counter;
  readonly #rpcActive: Gauge;
  readonly #rpcSeconds: Histogram;
  readonly #apiSeconds: Histogram;
  readonly #backendErrors: Counter;
  readonly #vmErrors: Counter;
  readonly #vmTotals: Readonly<Record<'create' | 'delete' | 'boot', Counter>>;
  readonly #httpRequests: Counter;
  readonly #httpSeconds: Histogram;
  readonly #healthChecks: Counter;
  readonly #healthFailures: Counter;
  readonly #logLines: Counter;

  constructor(backend: string, version: string) {
    this.#backend = backend;
    const { registry } = this;
    collectDefaultMetrics({ register: registry });
    this.#gauge('target_info', 'What serves these metrics.', [
      'service_name',
      'service_namespace',
      'service_version',
    ]).set({ service_name: 'metald', service_namespace: 'unkey', service_version: version }, 1);
    for (const name of changes) {
      const labels = ['backend', 'customer_id', ...(name === 'shutdown' ? ['force'] : [])];
      this.#requests.set(
        name,
        this.#counter(`unkey_metald_vm_${name}_requests_total`, `Calls to ${name} a VM.`, labels),
      );
      this.#successes.set(name, this.#counter(`unkey_metald_vm_${name}_success_total`, 'Those that did.', labels));
      this.#failures.set(
        name,
        this.#counter(`unkey_metald_vm_${name}_failures_total`, 'Those that did not.', [...labels, 'error_type']),
      );
      this.#durations.set(
        name,
        this.#histogram(`unkey_metald_vm_${name}_duration_seconds`, `How long it took to ${name} a VM.`, ['backend']),
      );
    }
    for (const name of reads) {
      const help = `Calls for the ${name === 'info' ? 'details of a VM' : 'list of VMs'}.`;
      this.#requests.set(
        name,
        this.#counter(`unkey_metald_vm_${name}_requests_total`, help, ['backend', 'customer_id']),
      );
    }
    this.#rpcRequests = this.#counter('rpc_server_requests_total', 'Calls that ended.', ['rpc_method', 'rpc_status']);
    this.#rpcActive = this.#gauge('rpc_server_active_requests', 'Calls under way.', ['rpc_method']);
    this.#rpcSeconds = this.#histogram('rpc_server_request_duration_seconds', 'How long calls took.', ['rpc_method']);
    this.#apiSeconds = this.#histogram('unkey_metald_api_request_duration_seconds', 'How long calls took.', ['method']);
    this.#counter('rpc_server_panics_total', 'Calls that brought the server down.', []).inc(0);
    this.#backendErrors = this.#counter('unkey_metald_backend_errors_total', 'Calls that the host failed.', [
      'backend',
      'operation',
    ]);
    for (const operation of changes) this.#backendErrors.inc({ backend, operation }, 0);
    this.#vmErrors = this.#counter('vm_error_total', 'Calls that failed.', ['operation', 'error']);
    // A series that is there before its first failure shows that failure in a rate.
    for (const operation of ['create', 'boot', 'shutdown', 'delete'])
      this.#vmErrors.inc({ operation, error: 'internal' }, 0);
    this.#vmTotals = {
      create: this.#counter('vm_create_total', 'VMs that were to be created.', ['status']),
      delete: this.#counter('vm_delete_total', 'VMs that were to be deleted.', ['status']),
      boot: this.#counter('vm_boot_total', 'VMs that were to be booted.', ['status']),
    };
    this.#httpRequests = this.#counter('http_requests_total', 'HTTP requests answered.', ['method', 'code']);
    this.#httpSeconds = this.#histogram('http_request_duration_seconds', 'Until an HTTP request was answered.', []);
    this.#healthChecks = this.#counter('unkey_metald_vm_health_checks_total', 'Health checks of the host.', []);
    this.#healthFailures = this.#counter('unkey_metald_vm_health_check_failures_total', 'Those that failed.', []);
    this.#logLines = this.#counter('log_entries_total', 'Lines of the log.', ['level']);
  }

  /** Counts a call that begins; the function that is returned counts its end. */
  begin({ operation, path, customer, force }: BeginCall): Finished {
    const labels: CallLabels = {
      backend: this.#backend,
      customer_id: this.#nameOf(customer),
      ...(operation === 'shutdown' ? { force: String(force) } : {}),
    };
    this.#requests.get(operation)?.inc(labels);
    this.#rpcActive.inc({ rpc_method: path });
    const started = performance.now();
    return (failure) => {
      const seconds = (performance.now() - started) / 1000;
      this.#rpcActive.dec({ rpc_method: path });
      this.#rpcRequests.inc({ rpc_method: path, rpc_status: failure === null ? 'ok' : codeName(failure.code) });
      this.#rpcSeconds.observe({ rpc_method: path }, seconds);
      this.#apiSeconds.observe({ method: path }, seconds);
      this.#durations.get(operation)?.observe({ backend: this.#backend }, seconds);
      if (operation === 'create' || operation === 'delete' || operation === 'boot')
        this.#vmTotals[operation].inc({ status: failure === null ? 'success' : 'failure' });
      if (failure === null) this.#successes.get(operation)?.inc(labels);
      else this.#fail(operation, labels, failure);
    };
  }

  /** Counts an HTTP request that was answered. */
  answered(method: string, status: number, startedAt: number): void {
    // Anybody can make up a method; a label for each would never end.
    const name = method === 'POST' || method === 'GET' ? method : 'other';
    this.#httpRequests.inc({ method: name, code: String(status) });
    this.#httpSeconds.observe((performance.now() - startedAt) / 1000);
  }

  /** Counts a health check. */
  checked(ok: boolean): void {
    this.#healthChecks.inc();
    if (!ok) this.#healthFailures.inc();
  }

  /** Counts a line of the log. */
  logged(level: string): void {
    this.#logLines.inc({ level });
  }

  #fail(operation: Operation, labels: CallLabels, failure: ConnectError): void {
    const error = codeName(failure.code);
    this.#failures.get(operation)?.inc({ ...labels, error_type: error });
    this.#vmErrors.inc({ operation, error });
    if (hostFailures.has(failure.code)) this.#backendErrors.inc({ backend: this.#backend, operation });
  }

  #nameOf(customer: string): string {
    if (this.#customers.has(customer)) return customer;
    if (this.#customers.size >= maxCustomers) return 'other';
    this.#customers.add(customer);
    return customer;
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge(name: string, help: string, labelNames: string[]): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram(name: string, help: string, labelNames: string[]): Histogram {
    return new Histogram({ name, help, labelNames, buckets: secondsBuckets, registers: [this.registry] });
  }
}
