import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { mintApiKey } from './api-keys.ts';
import { encodeApiKey } from './codec.ts';
import type { ApiContext } from './context.ts';
import { DialectError } from './errors.ts';
import { routeSchema } from './operation.ts';
import type { Activity, ApiKeyStore } from './ports.ts';
import { sendValue } from './reply.ts';
import {
  type ActivityQuery,
  activityBody,
  activityQuery,
  apiKeyBody,
  type CreateApiKeyBody,
  createApiKeyBody,
  type IdParams,
  idParams,
  newApiKeyBody,
  overviewBody,
} from './schemas.ts';
import { bodyLimits } from './settings.ts';

function encodeActivity({ meta, ...activity }: Activity): z.infer<typeof activityBody> {
  return { ...activity, ...(meta === undefined ? {} : { metaJson: JSON.stringify(meta) }) };
}

/** The time as we write times; null for none. Throws 400 for what is no time or is past. */
function expiry(text: string | undefined, now: number): string | null {
  if (text === undefined || text === '') return null;
  const at = Date.parse(text);
  if (Number.isNaN(at)) throw new DialectError(400, 'expiresAt must be an ISO 8601 time');
  if (at <= now) throw new DialectError(400, 'expiresAt must be in the future');
  return new Date(at).toISOString();
}

export function registerAdmin(app: FastifyInstance, context: ApiContext, keys: ApiKeyStore): void {
  const { vms, images, host, activity, clock } = context;

  app.get(
    '/v1/admin/overview',
    {
      schema: routeSchema({
        id: 'getOverview',
        tag: 'Administration',
        summary: 'Counts and use of the host',
        status: 200,
        answer: overviewBody,
      }),
    },
    async (_request, reply) => {
      const all = vms.list();
      const usage = await host.usage();
      return sendValue(reply, {
        counts: {
          activeVms: all.length,
          snapshots: vms.snapshots().length,
          templates: images.list().filter((image) => image.kernel !== null && image.rootfs !== null).length,
        },
        cpu: {
          usagePct: usage.cpu,
          capacityCores: usage.cores,
          usedCores: all.reduce((sum, vm) => sum + vm.cpus, 0),
        },
        memory: { usedBytes: usage.memoryUsedBytes, capacityBytes: usage.memoryCapacityBytes },
        storage: { usedBytes: usage.storageUsedBytes, capacityBytes: usage.storageCapacityBytes },
      });
    },
  );

  app.get<{ Querystring: ActivityQuery }>(
    '/v1/admin/activity',
    {
      schema: routeSchema({
        id: 'listActivity',
        tag: 'Administration',
        summary: 'What happened, newest first',
        query: activityQuery,
        status: 200,
        answer: z.array(activityBody),
      }),
    },
    async (request, reply) => {
      const limit = Math.trunc(Math.min(Math.max(request.query.limit ?? 50, 1), 200));
      return sendValue(reply, (await activity.list(limit)).map(encodeActivity));
    },
  );

  app.get(
    '/v1/admin/api-keys',
    {
      config: { runDatSheesh: { access: 'operator' } },
      schema: routeSchema({
        id: 'listApiKeys',
        tag: 'Administration',
        summary: 'List API keys',
        status: 200,
        answer: z.array(apiKeyBody),
      }),
    },
    async (_request, reply) => sendValue(reply, (await keys.list()).map(encodeApiKey)),
  );

  app.post<{ Body: CreateApiKeyBody }>(
    '/v1/admin/api-keys',
    {
      bodyLimit: bodyLimits.metadata,
      config: { runDatSheesh: { access: 'operator' } },
      schema: routeSchema({
        id: 'createApiKey',
        tag: 'Administration',
        summary: 'Make an API key; the key itself is shown this once',
        body: createApiKeyBody,
        status: 201,
        answer: newApiKeyBody,
      }),
    },
    async (request, reply) => {
      const name = request.body.name.trim();
      if (name === '') throw new DialectError(400, 'name is required');
      const { key, record } = mintApiKey(name, expiry(request.body.expiresAt, clock()), clock());
      await keys.insert(record);
      activity.record({
        type: 'apikey.created',
        entityType: 'api_key',
        entityId: record.id,
        message: `API key ${record.prefix} created`,
      });
      return sendValue(reply, { ...encodeApiKey(record), apiKey: key }, 201);
    },
  );

  app.post<{ Params: IdParams }>(
    '/v1/admin/api-keys/:id/revoke',
    {
      config: { runDatSheesh: { access: 'operator' } },
      schema: routeSchema({
        id: 'revokeApiKey',
        tag: 'Administration',
        summary: 'Make an API key invalid for good',
        params: idParams,
        status: 200,
        answer: apiKeyBody,
      }),
    },
    async (request, reply) => {
      const record = await keys.revoke(request.params.id, new Date(clock()).toISOString());
      if (record === null) throw new DialectError(404, 'Not found');
      activity.record({
        type: 'apikey.revoked',
        entityType: 'api_key',
        entityId: record.id,
        message: `API key ${record.prefix} revoked`,
      });
      return sendValue(reply, encodeApiKey(record));
    },
  );
}
