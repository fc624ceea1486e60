/** What VMs use and what became of their processes, as Prometheus reads it. */

import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { VmService } from '../../vm/api.ts';
import { type Vm, type VmEvent, vmStates } from '../../vm/model.ts';
import type { Sample, UsageSamples } from './usage.ts';

const owner = ['vm_id', 'customer_id'] as const;

/** What is counted of one VM: name, help, and the value of a sample. */
const counters: readonly (readonly [name: string, help: string, value: (sample: Sample) => number])[] = [
  ['cpu_seconds_total', 'CPU time of the VM process.', ({ usage }) => usage.cpuMicros / 1e6],
  ['disk_read_bytes_total', 'Read from disks.', ({ usage }) => sum(usage.disks, (disk) => disk.readBytes)],
  ['disk_write_bytes_total', 'Written to disks.', ({ usage }) => sum(usage.disks, (disk) => disk.writtenBytes)],
  ['disk_reads_total', 'Reads from disks.', ({ usage }) => sum(usage.disks, (disk) => disk.reads)],
  ['disk_writes_total', 'Writes to disks.', ({ usage }) => sum(usage.disks, (disk) => disk.writes)],
  ['network_rx_bytes_total', 'Received by the guest.', ({ usage }) => sum(usage.nics, (nic) => nic.rxBytes)],
  ['network_tx_bytes_total', 'Sent by the guest.', ({ usage }) => sum(usage.nics, (nic) => nic.txBytes)],
  ['network_rx_packets_total', 'Received by the guest.', ({ usage }) => sum(usage.nics, (nic) => nic.rxPackets)],
  ['network_tx_packets_total', 'Sent by the guest.', ({ usage }) => sum(usage.nics, (nic) => nic.txPackets)],
];

const gauges: typeof counters = [
  ['memory_bytes', 'Memory the VM process holds.', ({ usage }) => usage.residentBytes],
  ['uptime_seconds', 'Time since the VM was started.', ({ uptimeSeconds }) => uptimeSeconds],
];

/** Counters of metald's billing, which has no counterpart here: they exist for dashboards that ask for them. */
const absent: readonly (readonly [name: string, help: string])[] = [
  ['metald_billing_batches_sent_total', 'Always 0: nothing is sent to a billing service.'],
  ['metald_heartbeat_sent_total', 'Always 0: nothing is sent to a billing service.'],
];

export interface VmMetricsCollector {
  /** Reads what VMs use into the registry; to be called before it is printed. */
  refresh(): Promise<void>;
  /** Lets go of the VM service. */
  close(): void;
}

/** Adds the metrics of VMs to a registry. */
export function registerVmMetrics(
  registry: Registry,
  { vms, usage, backend }: { readonly vms: VmService; readonly usage: UsageSamples; readonly backend: string },
): VmMetricsCollector {
  const registers = [registry];
  for (const [name, help] of absent) new Counter({ name, help, registers });
  new Histogram({
    name: 'metald_billing_batch_send_duration_seconds',
    help: 'Always empty: nothing is sent to a billing service.',
    registers,
  });
  const lookups = new Counter({
    name: 'metald_vm_metrics_requests_total',
    help: 'Looks at what a VM uses.',
    registers,
  });
  const vmLookups = new Counter({
    name: 'unkey_metald_vm_metrics_requests_total',
    help: 'Looks at what a VM uses.',
    labelNames: ['backend'],
    registers,
  });
  const collected = new Counter({ name: 'metald_metrics_collected_total', help: 'VMs whose use was read.', registers });
  const seconds = new Histogram({
    name: 'metald_metrics_collection_duration_seconds',
    help: 'How long it took to read what all VMs use.',
    buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
    registers,
  });
  const series = [
    ...counters.map(([name, help, value]) => ({ value, metric: counter(name, help) })),
    ...gauges.map(([name, help, value]) => ({ value, metric: gauge(name, help) })),
  ];
  const states = new Gauge({
    name: 'unkey_metald_vms',
    help: 'VMs by state.',
    labelNames: ['backend', 'customer_id', 'state'],
    registers,
  });
  const activeVms = new Gauge({
    name: 'unkey_metald_active_vms',
    help: 'VMs that have a process.',
    labelNames: ['backend'],
    registers,
  });
  const close = registerProcessMetrics(registry, vms, usage);
  return {
    async refresh() {
      states.reset();
      for (const state of vmStates) states.set({ backend, customer_id: '', state }, 0);
      for (const vm of vms.list()) states.inc({ backend, customer_id: vm.tenant, state: vm.state });
      const active = vms.list().filter((vm) => vm.state === 'running' || vm.state === 'paused');
      activeVms.set({ backend }, active.length);
      const started = performance.now();
      const samples = await Promise.all(active.map((vm) => usage.of(vm)));
      seconds.observe((performance.now() - started) / 1000);
      lookups.inc(active.length);
      vmLookups.inc({ backend }, active.length);
      collected.inc(samples.filter((sample) => sample !== null).length);
      for (const { metric, value } of series) {
        metric.reset();
        for (const [index, sample] of samples.entries())
          if (sample) metric.inc(labelsOf(active[index]!), value(sample));
      }
    },
    close,
  };

  function counter(name: string, help: string): Counter {
    return new Counter({ name: `unkey_metald_vm_${name}`, help, labelNames: owner, registers });
  }

  function gauge(name: string, help: string): Gauge {
    return new Gauge({ name: `unkey_metald_vm_${name}`, help, labelNames: owner, registers });
  }
}

/** Counts what becomes of VM processes, whoever started and stopped them. Each runs in a jail of its own. */
function registerProcessMetrics(registry: Registry, vms: VmService, usage: UsageSamples): () => void {
  const count = (name: string, help: string) =>
    new Counter({ name: `unkey_metald_${name}`, help, registers: [registry] });
  const requests = count('process_create_requests_total', 'VM processes that were to be started.');
  const successes = count('process_create_success_total', 'Those that run.');
  const failures = count('process_create_failures_total', 'Those that did not come up.');
  const terminations = count('process_terminations_total', 'VM processes that ended.');
  const cleanups = count('process_cleanups_total', 'VMs of which everything was removed.');
  const jailRequests = count('jailer_start_requests_total', 'VM processes that were to be started in a jail.');
  const jailSuccesses = count('jailer_start_success_total', 'Those that run.');
  const jailFailures = count('jailer_start_failures_total', 'Those that did not come up.');
  const inc = (...all: readonly Counter[]) => {
    for (const counter of all) counter.inc();
  };
  return vms.onEvent((event: VmEvent) => {
    // Other APIs have VMs made and started in one.
    const isStart = event.type === 'vm.created' && vms.get(event.vmId).state === 'running';
    if (isStart || event.type === 'vm.started') inc(requests, successes, jailRequests, jailSuccesses);
    else if (event.type === 'vm.failed') inc(requests, failures, jailRequests, jailFailures);
    else if (event.type === 'vm.stopped') inc(terminations);
    else if (event.type === 'vm.removed') {
      usage.forget(event.vmId);
      inc(cleanups);
    }
  });
}

function labelsOf(vm: Vm): Record<(typeof owner)[number], string> {
  return { vm_id: vm.id, customer_id: vm.tenant };
}

function sum<T>(devices: readonly T[], value: (device: T) => number): number {
  return devices.reduce((total, device) => total + value(device), 0);
}
