/** Whose request is it? A bearer token names a customer, and a customer sees nothing of another. */

import { Code, type ConnectError } from '@connectrpc/connect';
import { refusal } from './errors.ts';
import type { JwtVerifier } from './jwt.ts';
import type { TokenVerifier } from './tokens.ts';

export interface Caller {
  readonly customer: string;
  /** The trace that the call is part of, as the client says. */
  readonly traceparent?: string;
}

/** The headers of a request as Node has them, or by a function where a library holds them otherwise. */
export type HeaderSource = (name: 'authorization' | 'x-tenant-id' | 'traceparent') => string | undefined;

export interface AuthOptions {
  /** Takes `dev_customer_<id>` and `dev_user_<id>` for what they say. */
  readonly development: boolean;
  readonly tokens: TokenVerifier;
  /** Null: none are taken. */
  readonly jwt: JwtVerifier | null;
}

/** Ids are names and nothing else: no separators, escapes or blanks that some later reader could take apart. */
const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

const developmentToken = /^dev_(?:customer|user)_(.*)$/s;

export function isCustomerId(text: string): boolean {
  return idPattern.test(text);
}

export class Authenticator {
  readonly #options: AuthOptions;

  constructor(options: AuthOptions) {
    this.#options = options;
  }

  /** Throws, or rejects with, `unauthenticated`. Answers at once where it need not ask anybody. */
  authenticate(header: HeaderSource): Caller | Promise<Caller> {
    const caller = this.#identify(header);
    const traceparent = header('traceparent');
    if (traceparent === undefined) return caller;
    const traced = ({ customer }: Caller) => ({ customer, traceparent });
    return caller instanceof Promise ? caller.then(traced) : traced(caller);
  }

  #identify(header: HeaderSource): Caller | Promise<Caller> {
    const authorization = header('authorization');
    if (authorization === undefined || authorization === '') throw unauthenticated('authorization header required');
    if (!authorization.startsWith('Bearer ')) throw unauthenticated("authorization must be 'Bearer <token>'");
    const tenant = header('x-tenant-id');
    // Ownership is by customer. The header is sent by clients of a later revision; it is checked, and has no effect.
    if (tenant !== undefined && !isCustomerId(tenant)) throw unauthenticated('invalid tenant ID');
    const token = authorization.slice('Bearer '.length);
    const development = developmentToken.exec(token);
    if (development) return this.#development(development[1] ?? '');
    const { tokens, jwt } = this.#options;
    if (tokens.recognizes(token)) return orRefuse(tokens.verify(token));
    if (jwt?.recognizes(token)) return orRefuse(jwt.verify(token));
    throw unauthenticated(
      this.#options.development
        ? "invalid token format - use 'dev_customer_<customer_id>' for development"
        : 'invalid token',
    );
  }

  #development(customer: string): Caller {
    if (!this.#options.development) throw unauthenticated('development tokens are not accepted here');
    if (!isCustomerId(customer)) throw unauthenticated('invalid development token format');
    return { customer };
  }
}

function orRefuse(customer: string | null | Promise<string | null>): Caller | Promise<Caller> {
  if (customer instanceof Promise) return customer.then(orRefuse);
  if (customer === null) throw unauthenticated('invalid token');
  return { customer };
}

function unauthenticated(message: string): ConnectError {
  return refusal(Code.Unauthenticated, 'UNAUTHENTICATED', message);
}
