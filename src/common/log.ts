import type { Logger } from 'pino';

/** Structured log (pino). Never given secrets: no keys, cookies, environment values or command texts. */
export type Log = Pick<Logger, 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'child'>;
