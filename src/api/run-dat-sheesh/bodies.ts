import type { IncomingMessage } from 'node:http';
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

/** Milliseconds a client has to send a body that is no stream. */
const bodyMs = 30_000;
/** Milliseconds a client that was answered has to come to the end of its body. */
const lingerMs = 5000;

function isStream(contentType: string | undefined): boolean {
  const type = contentType?.split(';')[0]?.trim().toLowerCase();
  return type !== undefined && streamTypes.some((each) => (typeof each === 'string' ? each === type : each.test(type)));
}

/** Ends the connection unless all of the body is there in time. */
function expectEnd(body: IncomingMessage, ms: number): void {
  if (body.complete) return;
  const timer = setTimeout(() => {
    // One that nobody reads has no end to tell of.
    if (!body.complete) body.destroy();
  }, ms).unref();
  body.once('end', () => clearTimeout(timer)).once('close', () => clearTimeout(timer));
}

/** Nobody holds a connection by a body that does not come, least of all without a key. */
function limitTimes(app: FastifyInstance): void {
  app.addHook('onRequest', (request, _reply, done) => {
    const { headers, raw } = request;
    const hasBody = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
    if (hasBody && !isStream(headers['content-type'])) expectEnd(raw, bodyMs);
    done();
  });
  app.addHook('onResponse', (request, _reply, done) => {
    // Closing at once would take the answer away from a sender that has not read it yet.
    expectEnd(request.raw, lingerMs);
    request.raw.resume();
    done();
  });
}

/** Parsers for JSON, in the original's words, and for archives and images, which stay streams. */
export function registerBodies(app: FastifyInstance): void {
  limitTimes(app);
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
