import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { encodeSeed, encodeSnapshot } from './codec.ts';
import type { ApiContext } from './context.ts';
import { DialectError } from './errors.ts';
import { snapshotId, vmId } from './ids.ts';
import { routeSchema } from './operation.ts';
import { sendNothing, sendValue } from './reply.ts';
import {
  type IdParams,
  idParams,
  type SnapshotBody,
  type SnapshotsQuery,
  snapshotBody,
  snapshotsQuery,
} from './schemas.ts';

export function registerSnapshots(app: FastifyInstance, { vms, images }: ApiContext): void {
  const users = (): SnapshotBody[] => vms.snapshots().map(encodeSnapshot);
  const seeds = (): SnapshotBody[] => images.list().flatMap((image) => encodeSeed(image) ?? []);
  const scopes = new Map<string, () => SnapshotBody[]>([
    ['user', users],
    ['internal', seeds],
    ['all', () => [...users(), ...seeds()]],
  ]);

  app.get<{ Querystring: SnapshotsQuery }>(
    '/v1/snapshots',
    {
      schema: routeSchema({
        id: 'listSnapshots',
        tag: 'Snapshots',
        summary: 'List snapshots',
        query: snapshotsQuery,
        status: 200,
        answer: z.array(snapshotBody),
      }),
    },
    (request, reply) => {
      const snapshots = scopes.get(request.query.scope ?? 'user');
      if (snapshots === undefined) throw new DialectError(400, 'Invalid scope');
      sendValue(reply, snapshots());
    },
  );

  app.post<{ Params: IdParams }>(
    '/v1/vms/:id/snapshots',
    {
      config: { runDatSheesh: { needs: 'RUNNING to snapshot' } },
      schema: routeSchema({
        id: 'createSnapshot',
        tag: 'Snapshots',
        summary: 'Make a snapshot of a running VM',
        params: idParams,
        status: 201,
        answer: snapshotBody,
        errors: [409, 501, 502, 504, 507],
      }),
    },
    async (request, reply) => {
      const id = vmId(request.params.id);
      const snapshot = await vms.snapshot(id);
      return sendValue(reply, encodeSnapshot(snapshot), 201);
    },
  );

  app.delete<{ Params: IdParams }>(
    '/v1/snapshots/:id',
    {
      schema: routeSchema({
        id: 'deleteSnapshot',
        tag: 'Snapshots',
        summary: 'Delete a snapshot; VMs that were made from it keep what they have',
        params: idParams,
        status: 204,
        errors: [409],
      }),
    },
    async (request, reply) => {
      await vms.removeSnapshot(snapshotId(request.params.id));
      return sendNothing(reply);
    },
  );
}
