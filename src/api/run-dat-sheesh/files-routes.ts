import { pipeline, type Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { BerthError } from '../../common/errors.ts';
import type { GuestClient } from '../../guest/guest.ts';
import { checkArchive, repackArchive } from './archive.ts';
import { streamedBody } from './bodies.ts';
import type { ApiContext } from './context.ts';
import { DialectError } from './errors.ts';
import { sandboxUser } from './guest-command.ts';
import { withGuest } from './guest-use.ts';
import { vmId } from './ids.ts';
import { routeSchema } from './operation.ts';
import { ownBucket } from './rate-limits.ts';
import { sendNothing } from './reply.ts';
import {
  type DownloadQuery,
  downloadQuery,
  type IdParams,
  idParams,
  type UploadQuery,
  uploadQuery,
} from './schemas.ts';
import { Spool } from './spool.ts';
import { resolveInWorkspace, workspace } from './workspace-path.ts';

const inWorkspace = { ...sandboxUser, root: workspace };

async function openDownload(guest: GuestClient, path: string): Promise<Readable> {
  try {
    return await guest.downloadTar(path, inWorkspace);
  } catch (error) {
    // Missing, unreadable or outside: one answer, which tells nothing about the guest's file system.
    if (error instanceof BerthError && error.code === 'guest_rejected') {
      throw new DialectError(400, 'Invalid download path');
    }
    throw error;
  }
}

export function registerFiles(app: FastifyInstance, context: ApiContext): void {
  const { vms, limits, rateLimits, log } = context;
  const archiveLimits = { maxEntries: limits.maxUploadEntries, maxUnpackedBytes: limits.maxUnpackedBytes };

  async function upload(request: FastifyRequest, guest: GuestClient, dest: string): Promise<void> {
    await using spool = await Spool.store(streamedBody(request), limits.maxUploadBytes, context.spoolDirectory);
    await checkArchive(spool.read(), archiveLimits);
    await guest.uploadTar(dest, repackArchive(spool.read(), archiveLimits), inWorkspace);
  }

  app.post<{ Params: IdParams; Querystring: UploadQuery }>(
    '/v1/vms/:id/files/upload',
    {
      config: { rateLimit: ownBucket(rateLimits.upload), runDatSheesh: { needs: 'RUNNING to upload files' } },
      schema: routeSchema({
        id: 'uploadFiles',
        tag: 'Files',
        summary: 'Unpack a tar.gz archive into a directory',
        params: idParams,
        query: uploadQuery,
        consumes: ['application/gzip'],
        status: 204,
        errors: [409, 502, 504, 507],
      }),
    },
    async (request, reply) => {
      const id = vmId(request.params.id);
      if (request.query.dest === '') throw new DialectError(400, 'dest is required');
      const dest = resolveInWorkspace(request.query.dest);
      if (dest === null) throw new DialectError(400, 'Only /workspace paths are allowed');
      await withGuest(vms, id, (guest) => upload(request, guest, dest));
      return sendNothing(reply);
    },
  );

  app.get<{ Params: IdParams; Querystring: DownloadQuery }>(
    '/v1/vms/:id/files/download',
    {
      config: { rateLimit: ownBucket(rateLimits.download), runDatSheesh: { needs: 'RUNNING to download files' } },
      schema: routeSchema({
        id: 'downloadFiles',
        tag: 'Files',
        summary: 'A directory or file as a tar.gz archive',
        params: idParams,
        query: downloadQuery,
        produces: ['application/gzip'],
        status: 200,
        errors: [409, 502, 504, 507],
      }),
    },
    async (request, reply) => {
      const id = vmId(request.params.id);
      if (request.query.path === '') throw new DialectError(400, 'path is required');
      const path = resolveInWorkspace(request.query.path);
      if (path === null) throw new DialectError(400, 'Invalid download path');
      reply.type('application/gzip');
      if (request.method === 'HEAD') {
        vms.guest(id);
        return reply.send();
      }
      const tar = await withGuest(vms, id, (guest) => openDownload(guest, path));
      const archive = createGzip({ level: 1 });
      // A failure halfway destroys the archive and with it the connection: a cut archive never looks complete.
      pipeline(tar, archive, (error) => {
        if (error) log.warn({ err: error, vmId: id }, 'download ended early');
      });
      return reply.send(archive);
    },
  );
}
