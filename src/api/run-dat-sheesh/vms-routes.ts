import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { encodeVm } from './codec.ts';
import type { ApiContext } from './context.ts';
import { decodeCreateVm } from './create-vm.ts';
import { DialectError } from './errors.ts';
import { vmId } from './ids.ts';
import { routeSchema } from './operation.ts';
import { ownBucket } from './rate-limits.ts';
import { sendJson, sendNothing, sendValue } from './reply.ts';
import {
  type CreateVmBody,
  createVmBody,
  type ForkBody,
  forkBody,
  type IdParams,
  idParams,
  type LogsQuery,
  logsBody,
  logsQuery,
  vmBody,
} from './schemas.ts';
import { bodyLimits } from './settings.ts';

const logs = new Map<string, 'console' | 'engine'>([
  ['firecracker.log', 'engine'],
  ['firecracker.stdout.log', 'console'],
  // The engine has one log for what it says and what it complains about.
  ['firecracker.stderr.log', 'engine'],
]);

const failures = [409, 501, 502, 504, 507];

export function registerVms(app: FastifyInstance, context: ApiContext): void {
  const { vms, codec, limits, rateLimits } = context;

  app.post<{ Body: CreateVmBody }>(
    '/v1/vms',
    {
      bodyLimit: bodyLimits.metadata,
      config: { rateLimit: ownBucket(rateLimits.createVm) },
      schema: routeSchema({
        id: 'createVm',
        tag: 'VMs',
        summary: 'Create a VM; answers when it runs',
        body: createVmBody,
        status: 201,
        answer: vmBody,
        errors: failures,
      }),
    },
    async (request, reply) => {
      const vm = await vms.create(decodeCreateVm(request.body, vms.quotas, limits, context.images));
      return sendJson(reply, codec.vm(vm), 201);
    },
  );

  app.get(
    '/v1/vms',
    { schema: routeSchema({ id: 'listVms', tag: 'VMs', summary: 'List VMs', status: 200, answer: z.array(vmBody) }) },
    (_request, reply) => {
      sendJson(reply, codec.vmList());
    },
  );

  app.get<{ Params: IdParams }>(
    '/v1/vms/:id',
    {
      config: { runDatSheesh: { vmNotFound: 'VM not found' } },
      schema: routeSchema({
        id: 'getVm',
        tag: 'VMs',
        summary: 'Get a VM',
        params: idParams,
        status: 200,
        answer: vmBody,
      }),
    },
    (request, reply) => {
      sendJson(reply, codec.vm(vms.get(vmId(request.params.id))));
    },
  );

  app.post<{ Params: IdParams }>(
    '/v1/vms/:id/start',
    {
      config: { runDatSheesh: { needs: 'STOPPED to start' } },
      schema: routeSchema({
        id: 'startVm',
        tag: 'VMs',
        summary: 'Start a stopped VM; answers when it runs',
        params: idParams,
        status: 204,
        errors: failures,
      }),
    },
    async (request, reply) => {
      const id = vmId(request.params.id);
      // A paused VM is shown as STOPPED, so starting it must work.
      if (vms.get(id).state === 'paused') await vms.resume(id);
      else await vms.start(id);
      return sendNothing(reply);
    },
  );

  app.post<{ Params: IdParams }>(
    '/v1/vms/:id/stop',
    {
      config: { runDatSheesh: { needs: 'RUNNING to stop' } },
      schema: routeSchema({
        id: 'stopVm',
        tag: 'VMs',
        summary: 'Shut a VM down; its disk stays',
        params: idParams,
        status: 204,
        errors: failures,
      }),
    },
    async (request, reply) => {
      await vms.stop(vmId(request.params.id));
      return sendNothing(reply);
    },
  );

  app.post<{ Params: IdParams; Body: ForkBody }>(
    '/v1/vms/:id/fork',
    {
      bodyLimit: bodyLimits.metadata,
      config: { rateLimit: ownBucket(rateLimits.createVm), runDatSheesh: { needs: 'RUNNING to fork' } },
      schema: routeSchema({
        id: 'forkVm',
        tag: 'VMs',
        summary: 'Make copies of a running VM, memory included: all of them or none',
        params: idParams,
        body: forkBody,
        status: 201,
        answer: z.array(vmBody),
        errors: failures,
      }),
    },
    async (request, reply) => {
      const copies = await vms.fork(vmId(request.params.id), request.body.count);
      return sendValue(reply, copies.map(encodeVm), 201);
    },
  );

  app.delete<{ Params: IdParams }>(
    '/v1/vms/:id',
    {
      schema: routeSchema({
        id: 'deleteVm',
        tag: 'VMs',
        summary: 'Remove a VM and its disk',
        params: idParams,
        status: 204,
        errors: failures,
      }),
    },
    async (request, reply) => {
      await vms.remove(vmId(request.params.id));
      return sendNothing(reply);
    },
  );

  app.get<{ Params: IdParams; Querystring: LogsQuery }>(
    '/v1/vms/:id/logs',
    {
      schema: routeSchema({
        id: 'getVmLogs',
        tag: 'VMs',
        summary: 'The last lines of a log',
        params: idParams,
        query: logsQuery,
        status: 200,
        answer: logsBody,
      }),
    },
    async (request, reply) => {
      const id = vmId(request.params.id);
      const type = request.query.type ?? 'firecracker.log';
      const kind = logs.get(type);
      if (kind === undefined) throw new DialectError(400, 'Invalid log type');
      const tail = Math.trunc(Math.min(Math.max(request.query.tail ?? 200, 1), 1000));
      const { lines, truncated, updatedAt } = await vms.log(id, kind, tail);
      return sendValue(reply, { type, lines, truncated, ...(updatedAt === null ? {} : { updatedAt }) });
    },
  );
}
