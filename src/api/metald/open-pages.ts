/** What needs no token: /health and /metrics, on the API's port and on one of their own. */

import type { Log } from '../../common/log.ts';
import { aggregated, metricsContentType } from './exposition.ts';
import type { Health } from './health.ts';
import type { ApiMetrics } from './metrics.ts';
import type { WireRequest, WireResponse } from './server.ts';
import type { VmMetricsCollector } from './vm-metrics.ts';

/** `full`: with series for each VM and customer. `aggregate`: their sums. `off`: not found. */
export type MetricsDetail = 'full' | 'aggregate' | 'off';

export interface OpenPageOptions {
  readonly health: Health;
  readonly metrics: ApiMetrics;
  readonly vmMetrics: VmMetricsCollector;
  readonly detail: MetricsDetail;
  readonly log: Log;
}

export class OpenPages {
  readonly #options: OpenPageOptions;
  #metricsPage: Promise<Page> | null = null;

  constructor(options: OpenPageOptions) {
    this.#options = options;
  }

  serve(path: string, request: WireRequest, response: WireResponse): void {
    const render =
      path === '/health'
        ? this.#health
        : path === '/metrics' && this.#options.detail !== 'off'
          ? this.#metrics
          : notFound;
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    const page = isRead || render === notFound ? render.call(this) : Promise.resolve(notAllowed);
    page.then(
      ({ status, headers, body }) => {
        const length = Buffer.byteLength(body);
        response.writeHead(status, { ...headers, 'content-length': length });
        response.end(request.method === 'HEAD' ? undefined : body);
      },
      (error: unknown) => {
        this.#options.log.error({ err: error, path }, 'page failed');
        response.writeHead(500, { 'content-length': 0 });
        response.end();
      },
    );
  }

  async #health(): Promise<Page> {
    const report = await this.#options.health.report();
    return {
      status: report.status === 'unhealthy' ? 503 : 200,
      headers: { 'content-type': 'application/json', 'cache-control': 'no-cache' },
      body: `${JSON.stringify(report)}\n`,
    };
  }

  /** Anyone may ask, so that those who ask meanwhile are given the same page. */
  #metrics(): Promise<Page> {
    this.#metricsPage ??= this.#renderMetrics().finally(() => {
      this.#metricsPage = null;
    });
    return this.#metricsPage;
  }

  async #renderMetrics(): Promise<Page> {
    const { metrics, vmMetrics, detail } = this.#options;
    await vmMetrics.refresh();
    const body = detail === 'full' ? await metrics.registry.metrics() : await aggregated(metrics.registry);
    return { status: 200, headers: { 'content-type': metricsContentType }, body };
  }
}

interface Page {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

const notAllowed: Page = { status: 405, headers: { allow: 'GET, HEAD' }, body: '' };

async function notFound(): Promise<Page> {
  return { status: 404, headers: { 'content-type': 'text/plain; charset=utf-8' }, body: '404 page not found\n' };
}
