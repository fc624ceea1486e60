import { Code } from '@connectrpc/connect';
import type { JsonStyle } from './json.ts';

/** HTTP statuses of the Connect protocol. */
const statuses: Readonly<Record<Code, number>> = {
  [Code.Canceled]: 499,
  [Code.Unknown]: 500,
  [Code.InvalidArgument]: 400,
  [Code.DeadlineExceeded]: 504,
  [Code.NotFound]: 404,
  [Code.AlreadyExists]: 409,
  [Code.PermissionDenied]: 403,
  [Code.ResourceExhausted]: 429,
  [Code.FailedPrecondition]: 400,
  [Code.Aborted]: 409,
  [Code.OutOfRange]: 400,
  [Code.Unimplemented]: 501,
  [Code.Internal]: 500,
  [Code.Unavailable]: 503,
  [Code.DataLoss]: 500,
  [Code.Unauthenticated]: 401,
};

/** The reference has the protocol's earlier status for a failed precondition; clients read the code, not the status. */
export function httpStatus(code: Code, style: JsonStyle): number {
  return code === Code.FailedPrecondition && style === 'spec' ? 412 : statuses[code];
}
