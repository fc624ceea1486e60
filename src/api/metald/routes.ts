/** Which request is whose: the calls, /health and /metrics. */

import type { Log } from '../../common/log.ts';
import type { Authenticator } from './auth.ts';
import type { Call, CallTable } from './calls.ts';
import { serveConnectJson } from './connect-json.ts';
import { type JsonStyle, JsonWriter } from './json.ts';
import type { ApiMetrics } from './metrics.ts';
import type { OpenPages } from './open-pages.ts';
import type { ServeProtocols } from './protocols.ts';
import type { WireHandler, WireRequest, WireResponse } from './server.ts';

export interface RouteOptions {
  readonly calls: CallTable;
  readonly authenticator: Authenticator;
  readonly style: JsonStyle;
  /** Makes what answers that is not Connect in JSON; called once, when it is needed. */
  readonly protocols: () => Promise<ServeProtocols>;
  readonly reflection: boolean;
  readonly pages: OpenPages;
  readonly metrics: ApiMetrics;
  readonly log: Log;
}

/** Other names the same messages have been served under. */
const aliases: readonly (readonly [alias: string, prefix: string])[] = [
  ['/metal.vmprovisioner.v1.', '/vmprovisioner.v1.'],
  ['/grpc.reflection.v1alpha.', '/grpc.reflection.v1.'],
];

const reflectionPath = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';

/** What the reference shows curl for a first try. */
const listPath = '/v1/vms';

const jsonType = /^application\/json\s*(?:;\s*charset=utf-8\s*)?$/i;
const otherTypes = /^application\/(?:proto|grpc(?:-web)?(?:\+(?:proto|json))?)\s*$/i;
const acceptPost =
  'application/grpc, application/grpc+json, application/grpc+proto, application/grpc-web, application/grpc-web+json, ' +
  'application/grpc-web+proto, application/json, application/json; charset=utf-8, application/proto';

export function createRoutes(options: RouteOptions): WireHandler {
  const json = { ...options, writer: new JsonWriter(options.style) };
  const { calls, pages, metrics, log } = options;
  let protocols: Promise<ServeProtocols> | null = null;
  const byPath = new Map<string, Call | null>(Object.values(calls).map((call) => [call.path, call]));
  if (options.reflection) byPath.set(reflectionPath, null);
  return (request, response) => {
    const startedAt = performance.now();
    response.on('close', () => metrics.answered(request.method ?? '', response.statusCode, startedAt));
    const path = pathOf(request);
    const answer = (call: Call, text?: string) =>
      serveConnectJson(call, request, response, json, text).catch((error: unknown) => giveUp(response, error, log));
    try {
      if (path === listPath && request.method === 'GET') return void answer(calls.listVms, '{}');
      if (!byPath.has(path)) return pages.serve(path, request, response);
      if (request.method !== 'POST') return end(response, 405, { allow: 'POST' });
      const type = request.headers['content-type'] ?? '';
      const call = byPath.get(path);
      if (call && jsonType.test(type)) void answer(call);
      else if (otherTypes.test(type)) {
        protocols ??= options.protocols();
        protocols
          .then((serve) => serve(request, response, path))
          .catch((error: unknown) => giveUp(response, error, log));
      } else end(response, 415, { 'accept-post': acceptPost });
    } catch (error) {
      giveUp(response, error, log);
    }
  };
}

/** The path without its query, under the one name it is served by. */
function pathOf(request: WireRequest): string {
  const url = request.url ?? '';
  const query = url.indexOf('?');
  const path = query === -1 ? url : url.slice(0, query);
  for (const [alias, prefix] of aliases) if (path.startsWith(alias)) return prefix + path.slice(alias.length);
  return path;
}

function end(response: WireResponse, status: number, headers: Record<string, string>): void {
  response.writeHead(status, { ...headers, 'content-length': 0 });
  response.end();
}

/** A request that could not be answered: its headers make no sense, or the connection broke meanwhile. */
function giveUp(response: WireResponse, error: unknown, log: Log): void {
  log.debug({ err: error }, 'request given up');
  if (response.headersSent) response.destroy();
  else end(response, 400, {});
}
