import { BerthError } from '../common/errors.ts';
import type { LogQuery } from './docker.ts';
import type { LogFormat } from './log-text.ts';

const units: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/**
 * Numbers up to here are an age, larger ones a moment. In seconds it is three years, or March 1973, and nobody means
 * either.
 */
const largestAge = 100_000_000;

/**
 * Reads the query of `/logs/<container>`. `since` and `until` are an age (`90`, `30m`, `1h`, `2d`), seconds since the epoch,
 * or 0 for no bound. A flag is set by its bare name, or by true, yes, on or 1.
 *
 * @param now seconds since the epoch
 * @throws BerthError invalid_argument
 */
export function readLogQuery(parameters: URLSearchParams, now: number): LogQuery & LogFormat {
  return {
    since: readTime(parameters, 'since', now),
    until: readTime(parameters, 'until', now),
    follow: readFlag(parameters, 'follow'),
    timestamps: readFlag(parameters, 'timestamps'),
    tail: readTail(parameters.get('tail') ?? '1000'),
    bare: readFlag(parameters, 'bare'),
    text: readFlag(parameters, 'text'),
    ansi: readFlag(parameters, 'ansi'),
  };
}

function readTime(parameters: URLSearchParams, name: string, now: number): number {
  const match = /^(\d{1,12})([smhd]?)$/.exec(parameters.get(name) ?? '0');
  if (!match) throw new BerthError('invalid_argument', { reason: `Invalid ${name}` });
  const value = Number(match[1]);
  const unit = match[2]!;
  if (unit === '' && (value === 0 || value > largestAge)) return value;
  return Math.max(1, Math.floor(now - value * (units[unit] ?? 1)));
}

function readTail(text: string): number | 'all' {
  if (text === 'all') return 'all';
  if (!/^\d{1,9}$/.test(text)) throw new BerthError('invalid_argument', { reason: 'Invalid tail' });
  return Number(text);
}

function readFlag(parameters: URLSearchParams, name: string): boolean {
  const value = parameters.get(name);
  if (value === null || ['false', 'no', 'off', '0'].includes(value)) return false;
  if (['', 'true', 'yes', 'on', '1'].includes(value)) return true;
  throw new BerthError('invalid_argument', { reason: `Invalid ${name}` });
}
