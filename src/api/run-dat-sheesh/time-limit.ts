import { DialectError } from './errors.ts';

/** The time a command gets, whole milliseconds; 0 or less means that it is over at once. Throws 400 above `max`. */
export function timeLimit(requested: number | undefined, fallback: number, max: number, maxName: string): number {
  if (requested === undefined) return fallback;
  if (!(requested <= max)) throw new DialectError(400, `timeoutMs exceeds ${maxName}=${max}`);
  return Math.ceil(requested);
}
