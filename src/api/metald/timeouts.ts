/** The time clients give a call: more than a timer holds is as good as no end. */

import type { IncomingHttpHeaders } from 'node:http';

/** Timers hold no more, ms; nothing here takes as long. */
export const longestTimerMs = 2 ** 31 - 1;

/** Of gRPC's units those in which eight digits are more than a timer holds, ms. */
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000 };

/** Shortens what libraries would hand to a timer as it is, which then ends at once. What makes no sense is left to them. */
export function capTimeouts(headers: IncomingHttpHeaders): void {
  const [, digits, unit = ''] = /^(\d{1,8})([HMS])$/.exec(String(headers['grpc-timeout'])) ?? [];
  if (Number(digits) * (unitMs[unit] ?? 0) > longestTimerMs)
    headers['grpc-timeout'] = `${Math.floor(longestTimerMs / 1000)}S`;
  const connect = headers['connect-timeout-ms'];
  if (typeof connect === 'string' && /^\d{10}$/.test(connect) && Number(connect) > longestTimerMs)
    headers['connect-timeout-ms'] = String(longestTimerMs);
}
