/** Whether the service works, by trying what it needs. */

import type { Log } from '../../common/log.ts';
import type { HealthCheck } from './ports.ts';

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy';

interface CheckResult {
  readonly status: 'healthy' | 'unhealthy';
  readonly duration_ms: number;
  readonly timestamp: string;
  readonly error?: string;
}

export interface HealthReport {
  readonly status: HealthStatus;
  readonly timestamp: string;
  readonly service: 'metald';
  readonly version: string;
  readonly uptime_seconds: number;
  readonly backend: { readonly type: string; readonly status: 'healthy' | 'unhealthy' };
  readonly system: {
    readonly uptime_seconds: number;
    readonly memory_usage_mb: number;
    readonly cpu_usage_percent: number;
  };
  readonly checks: Readonly<Record<string, CheckResult>>;
}

export interface HealthOptions {
  readonly checks: readonly HealthCheck[];
  /** The check that stands for the backend. */
  readonly backendCheck: string;
  readonly backend: string;
  readonly version: string;
  readonly log: Log;
  /** Called with the outcome of each check. */
  readonly onCheck: (ok: boolean) => void;
}

/** Anyone may ask, so what is found is told again for this long, ms. */
const freshMs = 1000;
const checkTimeoutMs = 5000;

export class Health {
  readonly #options: HealthOptions;
  readonly #startedAt = performance.now();
  #known: { readonly at: number; readonly report: Promise<HealthReport> } | null = null;
  #cpu = { at: performance.now(), used: process.cpuUsage() };

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  report(): Promise<HealthReport> {
    const now = performance.now();
    if (!this.#known || now - this.#known.at >= freshMs) this.#known = { at: now, report: this.#look() };
    return this.#known.report;
  }

  async #look(): Promise<HealthReport> {
    const { checks, backendCheck, backend, version } = this.#options;
    const results = await Promise.all(checks.map(async (check) => ({ check, result: await this.#run(check) })));
    const failed = results.filter(({ result }) => result.status === 'unhealthy').map(({ check }) => check);
    const uptime = Math.floor((performance.now() - this.#startedAt) / 1000);
    return {
      status: failed.some((check) => check.vital) ? 'unhealthy' : failed.length > 0 ? 'degraded' : 'healthy',
      timestamp: new Date().toISOString(),
      service: 'metald',
      version,
      uptime_seconds: uptime,
      backend: {
        type: backend,
        status: failed.some((check) => check.name === backendCheck) ? 'unhealthy' : 'healthy',
      },
      system: {
        uptime_seconds: uptime,
        memory_usage_mb: Math.round(process.memoryUsage.rss() / 1024 / 1024),
        cpu_usage_percent: this.#cpuPercent(),
      },
      checks: Object.fromEntries(results.map(({ check, result }) => [check.name, result])),
    };
  }

  async #run(check: HealthCheck): Promise<CheckResult> {
    const started = performance.now();
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error('took too long')), checkTimeoutMs);
    let error: string | null = null;
    try {
      await Promise.race([check.run(), late]);
    } catch (failure) {
      error = `${check.name} failed`;
      this.#options.log.warn({ err: failure, check: check.name }, 'health check failed');
    } finally {
      clearTimeout(timer);
    }
    this.#options.onCheck(error === null);
    return {
      status: error === null ? 'healthy' : 'unhealthy',
      duration_ms: Math.round((performance.now() - started) * 100) / 100,
      timestamp: new Date().toISOString(),
      ...(error === null ? {} : { error }),
    };
  }

  /** Of one processor, since the report before. */
  #cpuPercent(): number {
    const at = performance.now();
    const used = process.cpuUsage();
    const micros = used.user + used.system - this.#cpu.used.user - this.#cpu.used.system;
    const elapsedMs = at - this.#cpu.at;
    this.#cpu = { at, used };
    return elapsedMs <= 0 ? 0 : Math.round((micros / 10 / elapsedMs) * 10) / 10;
  }
}
