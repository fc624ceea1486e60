import type { FastifyInstance } from 'fastify';
import { registerAdmin } from './admin-routes.ts';
import { registerAuth } from './auth-routes.ts';
import type { ApiContext } from './context.ts';
import { DialectError } from './errors.ts';
import { registerExec } from './exec-routes.ts';
import { registerFiles } from './files-routes.ts';
import { registerImages } from './images-routes.ts';
import type { ApiKeyStore } from './ports.ts';
import { registerSnapshots } from './snapshots-routes.ts';
import { registerVms } from './vms-routes.ts';

/**
 * What does not exist below /v1 is a route too, closed like the others: strangers learn nothing from trying names, and
 * no rule about them has to look at the URL.
 */
function registerUnknown(app: FastifyInstance): void {
  for (const path of ['/v1', '/v1/*']) {
    app.all(path, { config: { rateLimit: false }, schema: { hide: true } }, () => {
      throw new DialectError(404, 'Not Found');
    });
  }
}

export function registerRoutes(app: FastifyInstance, context: ApiContext, keys: ApiKeyStore): void {
  registerVms(app, context);
  registerExec(app, context);
  registerFiles(app, context);
  registerSnapshots(app, context);
  registerImages(app, context);
  registerAdmin(app, context, keys);
  registerAuth(app, context);
  registerUnknown(app);
}
