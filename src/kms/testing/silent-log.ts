import pino from 'pino';
import type { Log } from '../../common/log.ts';

/** A log that nobody reads. */
export const silentLog: Log = pino({ level: 'silent' });
