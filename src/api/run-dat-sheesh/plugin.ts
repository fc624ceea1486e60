import { tmpdir } from 'node:os';
import cookie from '@fastify/cookie';
import fastify, { type FastifyInstance } from 'fastify';
import type { Log } from '../../common/log.ts';
import type { ImageStore } from '../../image/images.ts';
import type { VmService } from '../../vm/api.ts';
import { ActivityRecorder } from './activity.ts';
import { AccessControl, type AuthOptions } from './auth.ts';
import { registerBodies } from './bodies.ts';
import { Codec } from './codec.ts';
import type { ApiContext } from './context.ts';
import { answerBrokenRequest, registerErrors, sendError } from './errors.ts';
import { registerLazyPages } from './lazy-pages.ts';
import type { ActivityLog, ExecLogStore, HostMonitor } from './ports.ts';
import { registerRateLimits } from './rate-limits.ts';
import { registerRoutes } from './routes.ts';
import { bodyLimits, defaultLimits, defaultRateLimits, type Limits, type RateLimits } from './settings.ts';

export interface RunDatSheeshOptions {
  readonly vms: VmService;
  readonly images: ImageStore;
  readonly auth: AuthOptions;
  readonly execLog: ExecLogStore;
  readonly activity: ActivityLog;
  readonly host: HostMonitor;
  readonly log: Log;
  readonly limits?: Partial<Limits>;
  readonly rateLimits?: Partial<RateLimits>;
  /** Where uploads wait until they are checked, as files without names; default the system's temporary directory. */
  readonly spoolDirectory?: string;
  /** Addresses of reverse proxies whose X-Forwarded-* headers are believed; default none. */
  readonly trustProxy?: readonly string[];
  /** Connections at a time; those beyond it are closed. Default {@link defaultMaxConnections}. */
  readonly maxConnections?: number;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly clock?: () => number;
}

const defaultMaxConnections = 1024;

function createContext(options: RunDatSheeshOptions): ApiContext {
  const clock = options.clock ?? Date.now;
  return {
    vms: options.vms,
    images: options.images,
    codec: new Codec(options.vms),
    access: new AccessControl(options.auth, clock, options.log),
    execLog: options.execLog,
    activity: new ActivityRecorder(options.activity, clock, options.log),
    host: options.host,
    limits: { ...defaultLimits, ...options.limits },
    rateLimits: { ...defaultRateLimits, ...options.rateLimits },
    spoolDirectory: options.spoolDirectory ?? tmpdir(),
    log: options.log,
    clock,
  };
}

function followEvents(app: FastifyInstance, { vms, activity }: ApiContext): void {
  const unsubscribe = vms.onEvent((event) => activity.recordVmEvent(event));
  app.addHook('onClose', (_app, done) => {
    unsubscribe();
    done();
  });
}

/**
 * The run dat sheesh API as a server that does not listen yet.
 *
 * @example
 * const api = await createRunDatSheeshApi(options);
 * await api.listen({ host: '127.0.0.1', port: 3000 });
 */
export async function createRunDatSheeshApi(options: RunDatSheeshOptions): Promise<FastifyInstance> {
  const context = createContext(options);
  const app = fastify({
    bodyLimit: bodyLimits.standard,
    // While the daemon stops, the service refuses what it no longer does, in the usual shape.
    return503OnClosing: false,
    routerOptions: { maxParamLength: 256 },
    // Answers are rendered by the codec. Response schemas are documentation only.
    schemaController: { compilersFactory: { buildSerializer: () => () => JSON.stringify } },
    trustProxy: options.trustProxy === undefined ? false : [...options.trustProxy],
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: (error, request, reply) => sendError(error, request, reply, options.log),
  });
  registerErrors(app, options.log);
  registerBodies(app);
  await app.register(cookie);
  context.access.register(app);
  followEvents(app, context);
  await app.register(async (open) => {
    open.addHook('onRoute', (route) => {
      route.config = { ...route.config, runDatSheesh: { access: 'public' } };
    });
    registerLazyPages(open, async () =>
      (await import('./documentation.ts')).createDocumentation(context, options.auth.keys),
    );
  });
  await app.register(async (limited) => {
    await registerRateLimits(limited, context.rateLimits);
    registerRoutes(limited, context, options.auth.keys);
  });
  app.server.maxConnections = options.maxConnections ?? defaultMaxConnections;
  await app.ready();
  return app;
}
