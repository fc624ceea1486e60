import type { Server } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Log } from '../../common/log.ts';
import { createServer } from '../../common/node-http.ts';
import type { ImageStore } from '../../image/images.ts';
import type { VmService } from '../../vm/api.ts';
import { Authenticator } from './auth.ts';
import { createCalls } from './calls.ts';
import { type CertificateFiles, followCertificate, readCertificate } from './certificate.ts';
import { Health } from './health.ts';
import type { JsonStyle } from './json.ts';
import type { JwtOptions } from './jwt.ts';
import { ApiMetrics } from './metrics.ts';
import { type MetricsDetail, OpenPages } from './open-pages.ts';
import type { CustomerTokenStore, HealthCheck, NetworkFacts } from './ports.ts';
import { createRoutes } from './routes.ts';
import { createDualServer } from './server.ts';
import { MetaldService, type MetaldSettings } from './service.ts';
import { TokenVerifier } from './tokens.ts';
import { UsageSamples } from './usage.ts';
import { registerVmMetrics } from './vm-metrics.ts';

export interface MetaldOptions {
  readonly vms: VmService;
  readonly images: Pick<ImageStore, 'find'>;
  readonly network: NetworkFacts;
  readonly auth: {
    /** Takes `dev_customer_<id>` for a token of that customer. */
    readonly development: boolean;
    readonly tokens: CustomerTokenStore;
    /** Null: no JWTs. */
    readonly jwt: JwtOptions | null;
  };
  readonly settings: MetaldSettings;
  /** How replies in JSON are written. */
  readonly style: JsonStyle;
  readonly reflection: boolean;
  /** What /metrics on the API's port tells; on a port of its own it tells everything. */
  readonly metricsDetail: MetricsDetail;
  readonly health: { readonly checks: readonly HealthCheck[]; readonly backendCheck: string };
  /** Of TLS on the API's port; null: none. New connections are given what is in the files by then. */
  readonly certificateFiles: CertificateFiles | null;
  /** Milliseconds between looks at them; default 5 s. */
  readonly certificateCheckMs?: number;
  /** Connections to the API's port at a time; those beyond are closed as they come. */
  readonly maxConnections: number;
  /** Where spans of the calls are sent, as OTLP over HTTP; null: nowhere. */
  readonly tracesUrl: string | null;
  /** Name of the engine. */
  readonly backend: string;
  readonly version: string;
  readonly log: Log;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly clock?: () => number;
}

export interface MetaldApi {
  /** Serves every protocol; does not listen yet. */
  readonly server: Server;
  /** Serves /health and /metrics to the operator; does not listen yet. */
  readonly operatorServer: Server;
  /** Counts a line of the log. */
  countLogLine(level: string): void;
  /** Takes no new connections and waits for the requests in flight. */
  close(): Promise<void>;
  closeAllConnections(): void;
}

/** The metald API as servers that do not listen yet. */
export async function createMetaldApi(options: MetaldOptions): Promise<MetaldApi> {
  const { vms, style, reflection, backend, version, log } = options;
  const clock = options.clock ?? Date.now;
  const { development, tokens, jwt } = options.auth;
  const authenticator = new Authenticator({
    development,
    tokens: new TokenVerifier(tokens, clock),
    jwt: jwt === null ? null : await (await import('./jwt.ts')).JwtVerifier.open(jwt, clock, log),
  });
  const metrics = new ApiMetrics(backend, version);
  const usage = new UsageSamples(vms, clock, log);
  const vmMetrics = registerVmMetrics(metrics.registry, { vms, usage, backend });
  const health = new Health({ ...options.health, backend, version, log, onCheck: (ok) => metrics.checked(ok) });
  const service = new MetaldService({
    vms,
    images: options.images,
    usage,
    network: options.network,
    settings: options.settings,
  });
  const { tracesUrl } = options;
  const tracer = tracesUrl === null ? null : (await import('./traces.ts')).openTraces(tracesUrl, version, log);
  const calls = createCalls(service, metrics, log, tracer);
  const pagesWith = (detail: MetricsDetail) => new OpenPages({ health, metrics, vmMetrics, detail, log });
  const routes = createRoutes({
    calls,
    authenticator,
    style,
    reflection,
    // Costs a fifth of the daemon's memory: loaded for whoever speaks something else than JSON.
    protocols: async () =>
      (await import('./protocols.ts')).createProtocols(calls, { authenticator, style, reflection }),
    pages: pagesWith(options.metricsDetail),
    metrics,
    log,
  });
  const { certificateFiles, maxConnections } = options;
  const certificate = certificateFiles === null ? null : await readCertificate(certificateFiles);
  const dual = createDualServer(routes, { certificate, maxConnections });
  if (certificateFiles !== null)
    followCertificate(dual.server as HttpsServer, certificateFiles, options.certificateCheckMs ?? 5000, log);
  const operatorPages = pagesWith('full');
  const operatorServer = createServer((request, response) =>
    operatorPages.serve((request.url ?? '').split('?', 1)[0] ?? '', request, response),
  );
  return {
    server: dual.server,
    operatorServer,
    countLogLine: (level) => metrics.logged(level),
    async close() {
      operatorServer.close();
      operatorServer.closeIdleConnections();
      await dual.close();
      vmMetrics.close();
      await tracer?.close();
    },
    closeAllConnections() {
      dual.closeAllConnections();
      operatorServer.closeAllConnections();
    },
  };
}
