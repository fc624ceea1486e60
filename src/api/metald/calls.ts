/** The calls as a table, and what surrounds each whatever protocol it came by: counting, timing, and its failures. */

import type { DescMessage, Message } from '@bufbuild/protobuf';
import { Code, type ConnectError } from '@connectrpc/connect';
import type { Log } from '../../common/log.ts';
import type { Caller } from './auth.ts';
import { toConnectError } from './errors.ts';
import { VmService as VmServiceDesc } from './gen/vmprovisioner/v1/vm_pb.js';
import type { ApiMetrics, Operation } from './metrics.ts';
import type { CallTracer } from './ports.ts';
import type { MetaldService } from './service.ts';

export interface Call {
  /** `/vmprovisioner.v1.VmService/CreateVm`. */
  readonly path: string;
  readonly operation: Operation;
  readonly input: DescMessage;
  readonly output: DescMessage;
  /** Throws, or rejects with, a {@link ConnectError} only. */
  run(request: Message, caller: Caller): Message | Promise<Message>;
}

const operations: Readonly<Record<keyof typeof VmServiceDesc.method, Operation>> = {
  createVm: 'create',
  deleteVm: 'delete',
  bootVm: 'boot',
  shutdownVm: 'shutdown',
  pauseVm: 'pause',
  resumeVm: 'resume',
  rebootVm: 'reboot',
  getVmInfo: 'info',
  listVms: 'list',
};

export type CallTable = Readonly<Record<keyof typeof VmServiceDesc.method, Call>>;

export function createCalls(
  service: MetaldService,
  metrics: ApiMetrics,
  log: Log,
  tracer: CallTracer | null = null,
): CallTable {
  const entries = Object.values(VmServiceDesc.method).map((method) => {
    const name = method.localName as keyof CallTable;
    // The table's types say that each method takes its own message; what is put in comes from that method's decoder.
    const handle = (service[name] as (request: never, caller: Caller) => Message | Promise<Message>).bind(service);
    const path = `/${VmServiceDesc.typeName}/${method.name}`;
    const operation = operations[name];
    const run = (request: Message, caller: Caller) => {
      const { customer, traceparent } = caller;
      const counted = metrics.begin({ operation, path, customer, force: isForced(request) });
      const traced = tracer?.begin({
        ...{ path, customer, ...vmIdOf(request) },
        ...(traceparent === undefined ? {} : { traceparent }),
      });
      const finished: Finished = (failure) => {
        counted(failure);
        traced?.(failure);
      };
      const fail = (error: unknown): never => {
        const failure = toConnectError(error, { customer, ...vmIdOf(request) });
        if (failure.code === Code.Internal) log.error({ err: error, call: method.name }, 'call failed');
        finished(failure);
        throw failure;
      };
      let reply: Message | Promise<Message>;
      try {
        reply = handle(request as never, caller);
      } catch (error) {
        return fail(error);
      }
      if (!(reply instanceof Promise)) {
        finished(null);
        return reply;
      }
      return reply.then((message) => {
        finished(null);
        return message;
      }, fail);
    };
    return [name, { path, operation, input: method.input, output: method.output, run } satisfies Call] as const;
  });
  return Object.fromEntries(entries) as unknown as CallTable;
}

function isForced(request: Message): boolean {
  return 'force' in request && request.force === true;
}

function vmIdOf(request: Message): { readonly vmId?: string } {
  return 'vmId' in request && typeof request.vmId === 'string' && request.vmId !== '' ? { vmId: request.vmId } : {};
}

/** Tells how a call ended: null when it did what was asked. */
export type Finished = (failure: ConnectError | null) => void;
