import { BerthError } from '../common/errors.ts';
import { ConfigError } from '../daemon/config.ts';
import { SealError } from '../kms/sealed.ts';
import { LockedError } from '../store/lock.ts';
import { NewerSchemaError } from '../store/migrations.ts';

/** Failures whose message is made for the person at the keyboard. */
const operatorErrors = [ConfigError, LockedError, NewerSchemaError, SealError];

/** What the system says of a listener's address that cannot be had. */
const listenFailures = new Map([
  ['EADDRINUSE', 'is in use: stop what listens there, or choose another'],
  ['EADDRNOTAVAIL', 'is not an address of this machine'],
  ['EACCES', 'may not be used by this user'],
  ['ENOTFOUND', 'is not known'],
  ['EAI_AGAIN', 'is not known'],
]);

/**
 * The one line for a failure that the person at the keyboard can do something about; null for any other, whose stack is
 * wanted.
 */
export function describeFailure(error: unknown): string | null {
  const text = reasonOf(error);
  return text === null ? null : `berth: ${text.replaceAll(/\s+/g, ' ')}`;
}

function reasonOf(error: unknown): string | null {
  if (operatorErrors.some((kind) => error instanceof kind)) return (error as Error).message;
  if (error instanceof BerthError && error.code !== 'internal') {
    const cause = error.cause instanceof Error ? ` (${error.cause.message})` : '';
    return `${error.message}${cause}. ${error.advice}`;
  }
  return error instanceof Error ? listenFailure(error) : null;
}

function listenFailure(error: NodeJS.ErrnoException & { readonly address?: string; readonly port?: number }) {
  if (error.code === 'ERR_SOCKET_BAD_PORT') return error.message;
  if (error.syscall !== 'listen' && error.syscall !== 'getaddrinfo') return null;
  const failure = listenFailures.get(error.code ?? '');
  if (failure === undefined) return null;
  const { address, port } = error;
  const name = address?.includes(':') ? `[${address}]` : (address ?? (error as { hostname?: string }).hostname);
  return `listen address ${name}${port === undefined ? '' : `:${port}`} ${failure}`;
}
