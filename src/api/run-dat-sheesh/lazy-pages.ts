import type { FastifyInstance } from 'fastify';

const paths = ['/openapi.json', '/docs', '/docs/*', '/swagger', '/swagger/*'];

/** Hands requests for documentation to an application that is made by the first of them. */
export function registerLazyPages(app: FastifyInstance, create: () => Promise<FastifyInstance>): void {
  let pages: Promise<FastifyInstance> | null = null;
  const load = () => {
    pages ??= create().catch((error: unknown) => {
      pages = null;
      throw error;
    });
    return pages;
  };
  for (const path of paths) {
    app.get(path, async (request, reply) => {
      const { routing } = await load();
      reply.hijack();
      routing(request.raw, reply.raw);
    });
  }
  app.addHook('onClose', async () => {
    await (await pages)?.close();
  });
}
