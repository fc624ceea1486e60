import type { z } from 'zod';
import { errorBody, requestSchema, responseSchema } from './schemas.ts';

const descriptions: Readonly<Record<number, string>> = {
  200: 'OK',
  201: 'Created',
  204: 'Done',
  400: 'Invalid request',
  401: 'Missing or invalid credentials',
  403: 'Not allowed with these credentials',
  404: 'Not found',
  409: 'In conflict with the current state',
  413: 'Body too large',
  415: 'Unsupported content type',
  429: 'Rate limit or quota exceeded',
  500: 'Internal error',
  501: 'Not available on this host',
  502: 'The connection to the guest was lost',
  503: 'The guest does not answer, or the daemon is shutting down',
  504: 'It took too long',
  507: 'Not enough disk space',
};

/** Statuses that any route may answer. */
const common = [400, 401, 403, 404, 413, 415, 429, 500, 503];
const failure = responseSchema(errorBody);

export interface Operation {
  readonly id: string;
  readonly tag: 'VMs' | 'Programs' | 'Files' | 'Snapshots' | 'Images' | 'Sessions' | 'Administration';
  readonly summary: string;
  readonly params?: z.ZodType;
  readonly query?: z.ZodType;
  readonly body?: z.ZodType;
  /** Content types of a body that is not JSON. */
  readonly consumes?: readonly string[];
  readonly produces?: readonly string[];
  readonly status: 200 | 201 | 204;
  /** Of the successful answer; omitted: it has no body, or one that is not JSON. */
  readonly answer?: z.ZodType;
  /** Failures beyond those any route may have. */
  readonly errors?: readonly number[];
  readonly isPublic?: boolean;
}

function answers(operation: Operation): Record<number, Record<string, unknown>> {
  const success = operation.answer === undefined ? { type: 'null' } : responseSchema(operation.answer);
  const statuses = [...new Set([...common, ...(operation.errors ?? [])])].sort((a, b) => a - b);
  return {
    [operation.status]: { description: descriptions[operation.status], ...success },
    ...Object.fromEntries(statuses.map((status) => [status, { description: descriptions[status], ...failure }])),
  };
}

/** The `schema` of a Fastify route: what AJV validates and what /openapi.json shows. */
export function routeSchema(operation: Operation) {
  return {
    operationId: operation.id,
    tags: [operation.tag],
    summary: operation.summary,
    ...(operation.isPublic === true ? { security: [] } : {}),
    ...(operation.consumes === undefined ? {} : { consumes: [...operation.consumes] }),
    ...(operation.produces === undefined ? {} : { produces: [...operation.produces] }),
    ...(operation.params === undefined ? {} : { params: requestSchema(operation.params) }),
    ...(operation.query === undefined ? {} : { querystring: requestSchema(operation.query) }),
    ...(operation.body === undefined ? {} : { body: requestSchema(operation.body) }),
    response: answers(operation),
  };
}
