import type { FastifyInstance } from 'fastify';
import type { ApiContext } from './context.ts';
import { routeSchema } from './operation.ts';
import { addressBucket } from './rate-limits.ts';
import { sendValue } from './reply.ts';
import { type LoginBody, loginBody, meBody, okBody } from './schemas.ts';
import { bodyLimits } from './settings.ts';

export function registerAuth(app: FastifyInstance, { access, rateLimits }: ApiContext): void {
  app.post<{ Body: LoginBody }>(
    '/auth/login',
    {
      bodyLimit: bodyLimits.login,
      config: { rateLimit: addressBucket(rateLimits.login), runDatSheesh: { access: 'public' } },
      schema: routeSchema({
        id: 'login',
        tag: 'Sessions',
        summary: 'Log the admin in; sets the rds_session cookie',
        body: loginBody,
        status: 200,
        answer: meBody,
        isPublic: true,
      }),
    },
    async (request, reply) => {
      const { email, password } = request.body;
      await access.login(email, password, request, reply);
      return sendValue(reply, { email });
    },
  );

  app.post(
    '/auth/logout',
    {
      config: { rateLimit: false, runDatSheesh: { access: 'public' } },
      schema: routeSchema({
        id: 'logout',
        tag: 'Sessions',
        summary: 'End the session',
        status: 200,
        answer: okBody,
        isPublic: true,
      }),
    },
    (request, reply) => {
      access.logout(request, reply);
      sendValue(reply, { ok: true });
    },
  );

  app.get(
    '/auth/me',
    {
      config: { rateLimit: false, runDatSheesh: { access: 'session' } },
      schema: routeSchema({
        id: 'me',
        tag: 'Sessions',
        summary: 'Who is logged in',
        status: 200,
        answer: meBody,
      }),
    },
    (request, reply) => {
      sendValue(reply, { email: request.runDatSheeshPrincipal?.email ?? '' });
    },
  );
}
