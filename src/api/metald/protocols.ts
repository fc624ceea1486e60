/** gRPC, gRPC-Web and binary Connect, and gRPC's reflection: by connect-node, with the same calls behind. */

import {
  Code,
  ConnectError,
  createConnectRouter,
  createContextKey,
  type HandlerContext,
  type ServiceImpl,
} from '@connectrpc/connect';
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
import { registerReflection } from './reflection.ts';
import type { WireRequest, WireResponse } from './server.ts';
import { capTimeouts } from './timeouts.ts';

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
  return async (request, response, path) => {
    const handler = handlers.get(path);
    if (!handler) throw new Error(`nothing serves ${path}`);
    request.url = path;
    capTimeouts(request.headers);
    const answer = await handler(universalRequestFromNodeRequest(request, response, undefined, undefined));
    await universalResponseToNodeResponse(answer, response);
  };
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
