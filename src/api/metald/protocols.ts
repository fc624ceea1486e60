/** gRPC, gRPC-Web and binary Connect, and gRPC's reflection: by connect-node, with the same calls behind. */

import type { DescMessage } from '@bufbuild/protobuf';
import {
  Code,
  ConnectError,
  createConnectRouter,
  createContextKey,
  type HandlerContext,
  type ServiceImpl,
} from '@connectrpc/connect';
import type { UniversalServerRequest } from '@connectrpc/connect/protocol';
import {
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from '@connectrpc/connect-node';
import type { Authenticator, Caller } from './auth.ts';
import { maxMessageBytes } from './body.ts';
import type { CallTable } from './calls.ts';
import { VmService } from './gen/vmprovisioner/v1/vm_pb.js';
import type { JsonStyle } from './json.ts';
import { checkMessage, type MessageForm } from './message-check.ts';
import { registerReflection } from './reflection.ts';
import type { WireRequest, WireResponse } from './server.ts';
import { capTimeouts } from './timeouts.ts';

const framedType = /^application\/grpc\b/i;
const framedJsonType = /^application\/grpc(?:-web)?\+json\b/i;

const callerKey = createContextKey<Caller | null>(null, { description: 'who calls' });

export interface ProtocolOptions {
  readonly authenticator: Authenticator;
  readonly style: JsonStyle;
  /** Tells clients of gRPC which services there are; without a token, as they ask before they have one. */
  readonly reflection: boolean;
}

/** Answers a request whose path is that of a call, or of reflection. Rejects when the answer cannot be written. */
export type ServeProtocols = (request: WireRequest, response: WireResponse, path: string) => Promise<void>;

export function createProtocols(calls: CallTable, options: ProtocolOptions): ServeProtocols {
  const { authenticator } = options;
  const router = createConnectRouter({
    acceptCompression: [compressionGzip],
    readMaxBytes: maxMessageBytes,
    binaryOptions: { readUnknownFields: false },
    jsonOptions: { ignoreUnknownFields: true, useProtoFieldName: options.style === 'spec' },
  });
  router.service(VmService, implementation(calls), {
    // Before the body is read: nobody without a token makes the daemon parse anything.
    requestGate: async (context) => {
      const caller = await authenticator.authenticate((name) => context.requestHeader.get(name) ?? undefined);
      context.values.set(callerKey, caller);
    },
  });
  if (options.reflection) registerReflection(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const inputs = new Map(Object.values(calls).map(({ path, input }) => [path, input]));
  return async (request, response, path) => {
    const handler = handlers.get(path);
    if (!handler) throw new Error(`nothing serves ${path}`);
    request.url = path;
    capTimeouts(request.headers);
    const universal = universalRequestFromNodeRequest(request, response, undefined, undefined);
    const input = inputs.get(path);
    const checked = input
      ? { ...universal, body: checkMessage(bytesOf(universal), formOf(request, input)) }
      : universal;
    const answer = await handler(checked);
    await universalResponseToNodeResponse(answer, response);
  };
}

function formOf({ headers }: WireRequest, desc: DescMessage): MessageForm {
  const type = headers['content-type'] ?? '';
  return {
    desc,
    isJson: framedJsonType.test(type),
    isFramed: framedType.test(type),
    isPacked: headers['content-encoding'] === 'gzip',
  };
}

/** The library's own body parsers are for other frameworks. */
function bytesOf({ body }: UniversalServerRequest): AsyncIterable<Uint8Array> {
  if (typeof body !== 'object' || body === null || !(Symbol.asyncIterator in body))
    throw new Error('the body of a request is no stream');
  return body;
}

function implementation(calls: CallTable): ServiceImpl<typeof VmService> {
  const entries = Object.entries(calls).map(([name, call]) => [
    name,
    (request: never, context: HandlerContext) => {
      const caller = context.values.get(callerKey);
      if (caller === null) throw new ConnectError('authorization header required', Code.Unauthenticated);
      return call.run(request, caller);
    },
  ]);
  return Object.fromEntries(entries) as ServiceImpl<typeof VmService>;
}
