/** gRPC, gRPC-Web and binary Connect, and gRPC's reflection: by connect-node, with the same calls behind. */

import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextKey,
  type HandlerContext,
  type ServiceImpl,
} from '@connectrpc/connect';
import { compressionGzip, connectNodeAdapter } from '@connectrpc/connect-node';
import type { Authenticator, Caller } from './auth.ts';
import { maxMessageBytes } from './body.ts';
import type { CallTable } from './calls.ts';
import { VmService } from './gen/vmprovisioner/v1/vm_pb.js';
import type { JsonStyle } from './json.ts';
import { registerReflection } from './reflection.ts';
import type { WireHandler } from './server.ts';

const callerKey = createContextKey<Caller | null>(null, { description: 'who calls' });

export interface ProtocolOptions {
  readonly authenticator: Authenticator;
  readonly style: JsonStyle;
  /** Tells clients of gRPC which services there are; without a token, as they ask before they have one. */
  readonly reflection: boolean;
}

export function createProtocols(calls: CallTable, options: ProtocolOptions): WireHandler {
  const { authenticator } = options;
  return connectNodeAdapter({
    routes(router: ConnectRouter) {
      router.service(VmService, implementation(calls), {
        // Before the body is read: nobody without a token makes the daemon parse anything.
        requestGate: async (context) => {
          const caller = await authenticator.authenticate((name) => context.requestHeader.get(name) ?? undefined);
          context.values.set(callerKey, caller);
        },
      });
      if (options.reflection) registerReflection(router);
    },
    acceptCompression: [compressionGzip],
    readMaxBytes: maxMessageBytes,
    jsonOptions: { ignoreUnknownFields: true, useProtoFieldName: options.style === 'spec' },
  }) as WireHandler;
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
