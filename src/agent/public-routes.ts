import { BerthError } from '../common/errors.ts';
import type { Agent } from './agent.ts';
import { renderDashboard } from './dashboard.ts';
import type { Exchange, Route } from './http-server.ts';
import { appInfo } from './info.ts';
import { renderMetrics } from './metrics.ts';
import type { Container } from './protocol/guest-api.ts';
import { shared } from './shared.ts';
import { systemInfo } from './system-info.ts';

/** `GET /`. */
export function dashboardRoute(agent: Agent): Route {
  // Once at a time: it asks the TEE and the container engine, for anybody.
  const page = shared(async () => {
    const [info, system, containers] = await Promise.all([
      appInfo(agent, 'public'),
      agent.compose.publicSysinfo ? systemInfo(agent.dataDisks) : null,
      listContainers(agent),
    ]);
    const { simulated } = agent.attestor;
    return renderDashboard({ compose: agent.compose, info, simulated, system, containers });
  });
  return async (exchange) => {
    if (exchange.request.method !== 'GET' || exchange.path.length > 0) return false;
    send(exchange, 'text/html', await page());
    return true;
  };
}

/** `GET /metrics`. */
export function metricsRoute(agent: Agent): Route {
  return async (exchange) => {
    if (exchange.request.method !== 'GET' || exchange.path.length !== 1 || exchange.path[0] !== 'metrics') return false;
    send(exchange, 'text/plain; version=0.0.4', renderMetrics(await systemInfo(agent.dataDisks)));
    return true;
  };
}

async function listContainers(agent: Agent): Promise<readonly Container[] | null> {
  try {
    return await agent.docker.list();
  } catch (error) {
    if (error instanceof BerthError && error.code === 'containers_unavailable') return null;
    throw error;
  }
}

function send({ response }: Exchange, type: string, text: string): void {
  const body = Buffer.from(text);
  response.writeHead(200, { 'content-type': `${type}; charset=utf-8`, 'content-length': body.length });
  response.end(body);
}
