/** The pages that describe the API, made when somebody asks for the first of them: the daemon seldom needs what makes them. */

import fastify, { type FastifyInstance } from 'fastify';
import type { ApiContext } from './context.ts';
import { registerDocs } from './docs.ts';
import { registerErrors } from './errors.ts';
import { registerExplorer, registerOpenApi } from './openapi.ts';
import type { ApiKeyStore } from './ports.ts';
import { registerRoutes } from './routes.ts';

/** /openapi.json, /swagger and /docs as an application of its own; of the API's routes it knows what they look like only. */
export async function createDocumentation(context: ApiContext, keys: ApiKeyStore): Promise<FastifyInstance> {
  const app = fastify({
    return503OnClosing: false,
    // The pages are texts.
    schemaController: { compilersFactory: { buildSerializer: () => () => JSON.stringify } },
  });
  registerErrors(app, context.log);
  await registerOpenApi(app);
  await app.register(async (described) => {
    described.addHook('onRoute', (route) => {
      route.handler = (_request, reply) => reply.callNotFound();
    });
    registerRoutes(described, context, keys);
  });
  await app.register(async (pages) => {
    await registerExplorer(pages);
    registerDocs(pages);
  });
  await app.ready();
  return app;
}
