/** Metrics as text. The aggregate form has nothing in it about one customer or one VM. */

import { type MetricObjectWithValues, type MetricValue, Registry } from 'prom-client';

/** Labels that say whose something is. */
const ownerLabels = new Set(['customer_id', 'vm_id']);

export const metricsContentType = Registry.PROMETHEUS_CONTENT_TYPE;

/** The registry with series that differ only in whose they are added up. */
export async function aggregated(registry: Registry): Promise<string> {
  const metrics = await registry.getMetricsAsJSON();
  return `${metrics.map(renderMetric).join('\n\n')}\n`;
}

function renderMetric(metric: MetricObjectWithValues<MetricValue<string>>): string {
  const sums = new Map<string, number>();
  for (const { value, labels, ...rest } of metric.values) {
    const name = 'metricName' in rest && typeof rest.metricName === 'string' ? rest.metricName : metric.name;
    const shown = Object.entries(labels ?? {}).filter(([label]) => !ownerLabels.has(label));
    const series = shown.length === 0 ? name : `${name}{${shown.map(renderLabel).join(',')}}`;
    sums.set(series, (sums.get(series) ?? 0) + value);
  }
  const lines = Array.from(sums, ([series, value]) => `${series} ${renderValue(value)}`);
  return [`# HELP ${metric.name} ${metric.help}`, `# TYPE ${metric.name} ${metric.type}`, ...lines].join('\n');
}

function renderLabel([name, value]: [string, unknown]): string {
  const text = String(value).replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
  return `${name}="${text}"`;
}

function renderValue(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf';
  return value === Number.NEGATIVE_INFINITY ? '-Inf' : String(value);
}
