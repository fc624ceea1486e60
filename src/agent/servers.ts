import type { Server } from 'node:http';
import type { Agent } from './agent.ts';
import { dstackGuestHandlers } from './dstack-guest-handlers.ts';
import { guestApiHandlers } from './guest-api-handlers.ts';
import { createHttpServer, type Route } from './http-server.ts';
import { logsRoute } from './logs-route.ts';
import { DstackGuest, Tappd, Worker } from './protocol/dstack-guest.ts';
import { GuestApi } from './protocol/guest-api.ts';
import { prpcRoute } from './prpc-route.ts';
import { dashboardRoute, metricsRoute } from './public-routes.ts';
import { tappdHandlers } from './tappd-handlers.ts';
import { appVersionHeader } from './version.ts';
import { workerHandlers } from './worker-handlers.ts';

/** The HTTP servers of an agent, none of which listens yet. */
export interface AgentServers {
  /** dstack.sock. */
  internal(): Server;
  /** tappd.sock. */
  tappd(): Server;
  /** What the host talks to. */
  guestApi(): Server;
  /**
   * The public HTTP port.
   * @param more tried after the port's own routes
   */
  external(more?: readonly Route[]): Server;
}

/** Connections to the port that everybody reaches, and bytes of a request there: none of its methods needs more. */
const publicBounds = { connections: 256, maxBytes: 64 * 1024 } as const;

export function agentServers(agent: Agent): AgentServers {
  const { log } = agent;
  const { publicLogs, publicSysinfo } = agent.compose;
  return {
    internal: () => createHttpServer([internalRoute(agent)], log),
    tappd() {
      const options = { prefix: 'Tappd.', log };
      // The published client of this socket calls `Info` at the root.
      const mounts = ['prpc', ''].map((mount) => prpcRoute(mount, Tappd, tappdHandlers(agent), options));
      return createHttpServer(mounts, log);
    },
    guestApi: () => createHttpServer([prpcRoute('api', GuestApi, guestApiHandlers(agent), { log })], log),
    external(more = []) {
      const routes = [
        prpcRoute('prpc', Worker, workerHandlers(agent), { prefix: 'Worker.', maxBytes: publicBounds.maxBytes, log }),
        dashboardRoute(agent),
        ...(publicLogs ? [logsRoute(agent.docker, log)] : []),
        ...(publicSysinfo ? [metricsRoute(agent)] : []),
        ...more,
      ];
      const server = createHttpServer(routes, log, publicBounds);
      server.prependListener('request', (_request, response) => response.setHeader('x-app-version', appVersionHeader));
      return server;
    },
  };
}

/** The methods of dstack.sock, at the root. */
export function internalRoute(agent: Agent): Route {
  return prpcRoute('', DstackGuest, dstackGuestHandlers(agent), { log: agent.log });
}
