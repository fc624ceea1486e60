import type { FastifyReply } from 'fastify';

const json = 'application/json; charset=utf-8';

/** Sends JSON that is rendered already. */
export function sendJson(reply: FastifyReply, body: string | Buffer, status = 200): FastifyReply {
  return reply.code(status).type(json).send(body);
}

export function sendValue(reply: FastifyReply, body: object, status = 200): FastifyReply {
  return sendJson(reply, JSON.stringify(body), status);
}

export function sendNothing(reply: FastifyReply): FastifyReply {
  return reply.code(204).send();
}
