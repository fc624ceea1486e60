import { pipeline } from 'node:stream/promises';
import { BerthError } from '../common/errors.ts';
import type { Docker } from './docker.ts';
import type { Route } from './http-server.ts';
import type { AgentLog } from './log.ts';
import { LogFrames } from './log-frames.ts';
import { readLogQuery } from './log-query.ts';
import { LogText } from './log-text.ts';

/** Logs that are read at a time. */
const maxStreams = 32;
/** A log without output for this long ends. */
const idleMs = 600_000;

/** `GET /logs/<container>`. */
export function logsRoute(docker: Docker, log: AgentLog): Route {
  let streams = 0;
  return async ({ request, response, path, query }) => {
    if (request.method !== 'GET' || path.length !== 2 || path[0] !== 'logs') return false;
    const parameters = readLogQuery(new URLSearchParams(query), Date.now() / 1000);
    if (streams >= maxStreams) throw new BerthError('quota_exceeded', { resource: 'log stream', limit: maxStreams });
    streams++;
    try {
      const { tty, stream } = await docker.logs(path[1]!, parameters);
      const type = parameters.bare || !parameters.text ? 'text/plain' : 'application/x-ndjson';
      response.writeHead(200, { 'content-type': `${type}; charset=utf-8`, 'x-accel-buffering': 'no' });
      // Whoever follows a silent container learns at once that it works.
      response.flushHeaders();
      // This log's own bound, for a silent container as for a reader that does not read.
      request.socket.setTimeout(0);
      stream.setTimeout(idleMs, () => stream.destroy());
      await pipeline(stream, new LogFrames(tty), new LogText(parameters), response);
    } catch (error) {
      if (!response.headersSent) throw error;
      // The reader is gone, or the engine broke off: the connection ends either way.
      log.debug({ err: error }, 'a log ended early');
      response.destroy();
    } finally {
      streams--;
    }
    return true;
  };
}
