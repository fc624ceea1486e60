import type { Log } from '../../common/log.ts';
import type { ImageStore } from '../../image/images.ts';
import type { VmService } from '../../vm/api.ts';
import type { ActivityRecorder } from './activity.ts';
import type { AccessControl, RouteAccess } from './auth.ts';
import type { Codec } from './codec.ts';
import type { ExecLogStore, HostMonitor } from './ports.ts';
import type { Limits, RateLimits } from './settings.ts';

/** What the route files share. */
export interface ApiContext {
  readonly vms: VmService;
  readonly images: ImageStore;
  readonly codec: Codec;
  readonly access: AccessControl;
  readonly execLog: ExecLogStore;
  readonly activity: ActivityRecorder;
  readonly host: HostMonitor;
  readonly limits: Limits;
  readonly rateLimits: RateLimits;
  readonly spoolDirectory: string;
  readonly log: Log;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
}

/** What a route declares about itself beyond its schema. */
export interface RouteTraits {
  /** Omitted: any valid credentials. */
  readonly access?: RouteAccess;
  /** How this dialect words a VM in the wrong state, e.g. `STOPPED to start`. */
  readonly needs?: string;
  /** The text for an unknown VM where it is not `VM <id> not found`. */
  readonly vmNotFound?: string;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    runDatSheesh?: RouteTraits;
  }
}
