import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { parseJson } from '../../common/json.ts';
import { DialectError } from './errors.ts';

const streamTypes = [
  'application/gzip',
  'application/x-gzip',
  'application/x-tar',
  'application/octet-stream',
  // application/zip, application/x-zip-compressed, and what else it is called.
  /^application\/[^;]*zip/i,
];

/** Parsers for JSON, in the original's words, and for archives and images, which stay streams. */
export function registerBodies(app: FastifyInstance): void {
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.length === 0) {
      if (request.method === 'DELETE') done(null, undefined);
      else done(new DialectError(400, "Body cannot be empty when content-type is set to 'application/json'"));
      return;
    }
    try {
      done(null, parseJson(body));
    } catch (error) {
      done(new DialectError(400, (error as SyntaxError).message));
    }
  });
  for (const type of streamTypes) {
    app.addContentTypeParser(type, (_request, payload, done) => {
      done(null, payload);
    });
  }
}

/** The body of a request that must be a stream. Throws 415 for JSON, text or nothing. */
export function streamedBody(request: FastifyRequest): Readable {
  if (request.body instanceof Readable) return request.body;
  throw new DialectError(415, `Unsupported Media Type: ${request.headers['content-type'] ?? 'undefined'}`);
}
