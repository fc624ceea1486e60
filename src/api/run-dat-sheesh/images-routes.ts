import type { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Image } from '../../image/images.ts';
import { streamedBody } from './bodies.ts';
import { encodeImage, encodeNewImage } from './codec.ts';
import type { ApiContext } from './context.ts';
import { DialectError } from './errors.ts';
import { imageId } from './ids.ts';
import { routeSchema } from './operation.ts';
import { sendNothing, sendValue } from './reply.ts';
import {
  type CreateImageBody,
  createImageBody,
  type IdParams,
  idParams,
  imageBody,
  type WarmBody,
  warmBody,
} from './schemas.ts';
import { bodyLimits } from './settings.ts';

export function registerImages(app: FastifyInstance, { vms, images, activity }: ApiContext): void {
  const tell = (type: string, image: Pick<Image, 'id'>, verb: string): void =>
    activity.record({ type, entityType: 'image', entityId: image.id, message: `Image ${image.id} ${verb}` });

  app.get(
    '/v1/images',
    {
      schema: routeSchema({
        id: 'listImages',
        tag: 'Images',
        summary: 'List images',
        status: 200,
        answer: z.array(imageBody),
      }),
    },
    (_request, reply) => {
      sendValue(reply, images.list().map(encodeImage));
    },
  );

  app.post<{ Body: CreateImageBody }>(
    '/v1/images',
    {
      bodyLimit: bodyLimits.metadata,
      schema: routeSchema({
        id: 'createImage',
        tag: 'Images',
        summary: 'Create an image without files',
        body: createImageBody,
        status: 201,
        answer: imageBody,
        errors: [409, 507],
      }),
    },
    async (request, reply) => {
      const name = request.body.name.trim();
      const description = request.body.description.trim();
      if (name === '' || description === '') throw new DialectError(400, 'name and description are required');
      const image = await images.create({ name, description });
      tell('image.created', image, 'created');
      return sendValue(reply, encodeNewImage(image), 201);
    },
  );

  const uploads: readonly {
    readonly part: 'kernel' | 'rootfs' | 'bundle';
    readonly id: string;
    readonly summary: string;
    readonly contentType: string;
    readonly put: (id: string, body: Readable) => Promise<Image>;
  }[] = [
    {
      part: 'kernel',
      id: 'putImageKernel',
      summary: 'Upload the kernel: ELF vmlinux or bzImage',
      contentType: 'application/octet-stream',
      put: (id, body) => images.putKernel(id, body),
    },
    {
      part: 'rootfs',
      id: 'putImageRootfs',
      summary: 'Upload the root file system: ext4',
      contentType: 'application/octet-stream',
      put: (id, body) => images.putRootfs(id, body),
    },
    {
      part: 'bundle',
      id: 'putImageBundle',
      summary: 'Upload a zip with vmlinux and/or rootfs.ext4',
      contentType: 'application/zip',
      put: (id, body) => images.putBundle(id, body),
    },
  ];

  for (const { part, id: operationId, summary, contentType, put } of uploads) {
    app.put<{ Params: IdParams }>(
      `/v1/images/:id/${part}`,
      {
        schema: routeSchema({
          id: operationId,
          tag: 'Images',
          summary,
          params: idParams,
          consumes: [contentType],
          status: 204,
          errors: [409, 507],
        }),
      },
      async (request, reply) => {
        const { id } = images.get(imageId(request.params.id));
        const image = await put(id, streamedBody(request));
        tell(`image.${part}_uploaded`, image, `got its ${part}`);
        return sendNothing(reply);
      },
    );
  }

  app.post<{ Params: IdParams }>(
    '/v1/images/:id/set-default',
    {
      schema: routeSchema({
        id: 'setDefaultImage',
        tag: 'Images',
        summary: 'Use an image where none is named',
        params: idParams,
        status: 204,
        errors: [409],
      }),
    },
    async (request, reply) => {
      const image = await images.setDefault(imageId(request.params.id));
      tell('image.default_set', image, 'made the default');
      return sendNothing(reply);
    },
  );

  app.post<{ Params: IdParams; Body: WarmBody }>(
    '/v1/images/:id/warm',
    {
      bodyLimit: bodyLimits.metadata,
      schema: routeSchema({
        id: 'warmImage',
        tag: 'Images',
        summary: 'Make the template that VMs of this image and size are cloned from; answers when it is there',
        params: idParams,
        body: warmBody,
        status: 204,
        errors: [409, 501, 502, 504, 507],
      }),
    },
    async (request, reply) => {
      const { id } = images.get(imageId(request.params.id));
      const { cpu, memMb } = request.body;
      await vms.warm({ imageId: id, cpus: cpu, memoryMiB: memMb });
      return sendNothing(reply);
    },
  );

  app.delete<{ Params: IdParams }>(
    '/v1/images/:id',
    {
      schema: routeSchema({
        id: 'deleteImage',
        tag: 'Images',
        summary: 'Delete an image that no VM uses',
        params: idParams,
        status: 204,
        errors: [409],
      }),
    },
    async (request, reply) => {
      const id = imageId(request.params.id);
      await images.remove(id);
      tell('image.deleted', { id }, 'deleted');
      return sendNothing(reply);
    },
  );
}
