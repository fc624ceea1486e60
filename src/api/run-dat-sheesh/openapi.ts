import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import { sendJson } from './reply.ts';

interface DocumentedSchema {
  readonly consumes?: readonly string[];
  readonly body?: unknown;
}

/** Bodies that stay streams have nothing for AJV to check; the document says that they are there. */
function withBinaryBody<T extends DocumentedSchema | undefined>(schema: T): T {
  if (schema?.consumes === undefined || schema.body !== undefined) return schema;
  return { ...schema, body: { type: 'string', format: 'binary' } };
}

/** Collects the routes that are registered afterwards. */
export async function registerOpenApi(app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.0.3',
      info: {
        title: 'run-dat-sheesh manager API',
        description: 'Sandboxes in virtual machines, by Berth.',
        version: '0.1.0',
      },
      components: {
        securitySchemes: {
          ApiKeyAuth: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
          SessionCookie: { type: 'apiKey', in: 'cookie', name: 'rds_session' },
        },
      },
      security: [{ ApiKeyAuth: [] }, { SessionCookie: [] }],
    },
    hideUntagged: true,
    transform: ({ schema, url }) => ({ schema: withBinaryBody(schema), url }),
  });
}

/** /openapi.json and the explorer at /swagger, whose files come from this machine. */
export async function registerExplorer(app: FastifyInstance): Promise<void> {
  let document: string | undefined;
  app.get('/openapi.json', (_request, reply) => {
    document ??= JSON.stringify(app.swagger());
    sendJson(reply, document);
  });
  await app.register(swaggerUi, {
    routePrefix: '/swagger',
    staticCSP: "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    uiConfig: { persistAuthorization: false, validatorUrl: null },
  });
}
