/** Failures in this dialect: Connect's codes, and details that say which failure it was. */

import { create, type JsonObject, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { type BerthError, type ConnectCodeName, type ErrorCode, toBerthError } from '../../common/errors.ts';
import type { VmState } from '../../vm/model.ts';
import { ErrorInfoSchema } from './gen/google/rpc/error_details_pb.js';
import { stateName } from './states.ts';

/** The longest text of a failure, characters: what clients sent is not sent back at any length. */
const longestText = 512;

/** The domain that the reference gives to its reasons. */
const domain = 'metald.unkey.com';

const codes: Readonly<Record<ConnectCodeName, Code>> = {
  invalid_argument: Code.InvalidArgument,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  permission_denied: Code.PermissionDenied,
  unauthenticated: Code.Unauthenticated,
  failed_precondition: Code.FailedPrecondition,
  resource_exhausted: Code.ResourceExhausted,
  deadline_exceeded: Code.DeadlineExceeded,
  unavailable: Code.Unavailable,
  aborted: Code.Aborted,
  unimplemented: Code.Unimplemented,
  internal: Code.Internal,
};

/** Which call failed, for the details of its error. */
export interface FailedCall {
  readonly vmId?: string;
  readonly customer?: string;
}

/** A failure with a reason of its own, in capitals as all reasons. */
export function refusal(code: Code, reason: string, message: string, metadata: Record<string, string> = {}) {
  const cut = Object.fromEntries(Object.entries(metadata).map(([name, text]) => [name, text.slice(0, longestText)]));
  return new ConnectError(message.slice(0, longestText), code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, domain, metadata: cut } },
  ]);
}

/** Anything thrown, as what the client is told. */
export function toConnectError(error: unknown, call: FailedCall): ConnectError {
  if (error instanceof ConnectError) {
    if (error.rawMessage.length <= longestText) return error;
    return new ConnectError(error.rawMessage.slice(0, longestText), error.code, error.metadata, error.details as never);
  }
  const failure = toBerthError(error);
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(failure.params)) metadata[name === 'id' ? 'vm_id' : name] = String(value);
  if (call.vmId) metadata.vm_id = call.vmId;
  if (call.customer) metadata.customer_id = call.customer;
  return refusal(codes[failure.connect], reasonOf(failure.code), messageOf(failure, call), metadata);
}

function reasonOf(code: ErrorCode): string {
  return code.toUpperCase();
}

function messageOf(failure: BerthError, { vmId }: FailedCall): string {
  if (failure.code !== 'wrong_state') return failure.message;
  const state = failure.params.state as VmState;
  const is = underWay[state] ?? `state=${stateName(state)}`;
  return `VM ${vmId ?? ''} must be ${failure.params.expected} (${is})`;
}

/** What the dialect has no state for: the one it shows meanwhile may be the very one that was expected. */
const underWay: Readonly<Partial<Record<VmState, string>>> = {
  starting: 'it is being started',
  stopping: 'it is being shut down',
  removing: 'it is being deleted',
};

/** `Code.NotFound` → `not_found`. */
export function codeName(code: Code): string {
  return (Code[code] ?? 'Unknown').replace(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}

/**
 * An error's body. A detail is written as Connect's clients decode it and, in the same object, as the reference shows
 * it: a body with the latter alone is thrown away whole by some clients.
 */
export function errorJson(error: ConnectError): JsonObject {
  const details = error.details.flatMap((detail) => {
    if (!('desc' in detail) || detail.desc.typeName !== ErrorInfoSchema.typeName) return [];
    const info = create(ErrorInfoSchema, detail.value as MessageInitShape<typeof ErrorInfoSchema>);
    return {
      type: ErrorInfoSchema.typeName,
      value: Buffer.from(toBinary(ErrorInfoSchema, info)).toString('base64').replace(/=+$/, ''),
      '@type': `type.googleapis.com/${ErrorInfoSchema.typeName}`,
      reason: info.reason,
      domain: info.domain,
      metadata: info.metadata,
    };
  });
  return {
    code: codeName(error.code),
    message: error.rawMessage,
    ...(details.length === 0 ? {} : { details }),
  };
}
