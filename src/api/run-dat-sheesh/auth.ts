/**
 * Who is asking, and may they? Decided by the route that matched, never by the URL's text: a route is closed unless
 * it says otherwise.
 */

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { BerthError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import { ApiKeyVerifier, secretMatcher } from './api-keys.ts';
import { DialectError } from './errors.ts';
import { hashPassword, verifyPassword } from './passwords.ts';
import type { ApiKeyStore } from './ports.ts';
import { Sessions, sessionMaxAge } from './sessions.ts';

/** `public`: anyone. `session`: a log-in. `operator`: a log-in or the host's own key. `any`: every valid credential. */
export type RouteAccess = 'public' | 'session' | 'operator' | 'any';

export interface Principal {
  readonly kind: 'host' | 'key' | 'session';
  /** Stable, without secrets: the client's name for rate limits. */
  readonly bucket: string;
  /** Of a session's admin, else empty. */
  readonly email: string;
}

declare module 'fastify' {
  interface FastifyRequest {
    runDatSheeshPrincipal: Principal | null;
  }
}

export interface AdminAccount {
  readonly email: string;
  readonly password: string;
}

export interface AuthOptions {
  /** The host's own key. */
  readonly apiKey: string;
  readonly keys: ApiKeyStore;
  /** Who may log in; null: nobody. */
  readonly admin: AdminAccount | null;
}

const cookieName = 'rds_session';
const hostPrincipal: Principal = { kind: 'host', bucket: 'host', email: '' };

/** Browsers say where a request comes from; what says nothing is no browser and has no cookie it did not mean to send. */
function isCrossOrigin(request: FastifyRequest): boolean {
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined) return site !== 'same-origin' && site !== 'none';
  const origin = request.headers.origin;
  if (origin === undefined) return false;
  return !URL.canParse(origin) || new URL(origin).host !== request.host;
}

function isSafeMethod(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS';
}

export class AccessControl {
  readonly #isHostKey: (candidate: string) => boolean;
  readonly #keys: ApiKeyVerifier;
  readonly #sessions: Sessions;
  readonly #adminEmail: ((candidate: string) => boolean) | null;
  readonly #passwordHash: Promise<string>;

  constructor(options: AuthOptions, clock: () => number, log: Log) {
    if (options.apiKey === '') throw new RangeError('the API key must not be empty');
    if (options.admin?.password === '') throw new RangeError('the password of the admin must not be empty');
    this.#isHostKey = secretMatcher(options.apiKey);
    this.#keys = new ApiKeyVerifier(options.keys, clock, log);
    this.#sessions = new Sessions(clock);
    this.#adminEmail = options.admin === null ? null : secretMatcher(options.admin.email);
    this.#passwordHash = hashPassword(options.admin?.password ?? '');
  }

  /** Adds the hooks. They cover every route that is registered afterwards. */
  register(app: FastifyInstance): void {
    app.decorateRequest('runDatSheeshPrincipal', null);
    // Who it is must be known before the rate limit (which is per client); whether they may comes after it.
    app.addHook('onRequest', (request, _reply, done) => {
      const header = request.headers['x-api-key'];
      if (typeof header === 'string' && this.#isHostKey(header)) {
        request.runDatSheeshPrincipal = hostPrincipal;
        done();
      } else if (typeof header === 'string' && ApiKeyVerifier.looksLikeKey(header)) {
        this.#identifyByKey(request, header).then(() => done(), done);
      } else {
        request.runDatSheeshPrincipal = this.#identifyByCookie(request);
        done();
      }
    });
    app.addHook('preParsing', (request, _reply, _payload, done) => {
      done(this.#refusal(request));
    });
  }

  async #identifyByKey(request: FastifyRequest, key: string): Promise<void> {
    const record = await this.#keys.verify(key);
    request.runDatSheeshPrincipal =
      record === null ? this.#identifyByCookie(request) : { kind: 'key', bucket: `key:${record.id}`, email: '' };
  }

  #identifyByCookie(request: FastifyRequest): Principal | null {
    const token = request.cookies[cookieName];
    const session = token === undefined ? null : this.#sessions.find(token);
    return session === null ? null : { kind: 'session', bucket: `session:${session.email}`, email: session.email };
  }

  #refusal(request: FastifyRequest): Error | null {
    // No route matched: nothing is behind it, and what lies below /v1 has a route of its own.
    if (request.is404) return null;
    const access = request.routeOptions.config.runDatSheesh?.access ?? 'any';
    const principal = request.runDatSheeshPrincipal;
    const usesCookie = principal === null ? access === 'public' : principal.kind === 'session';
    if (usesCookie && !isSafeMethod(request.method) && isCrossOrigin(request)) {
      return new DialectError(403, 'Cross-origin request refused');
    }
    if (access === 'public') return null;
    if (principal === null) return new BerthError('unauthenticated');
    if (access === 'session' && principal.kind !== 'session') return new BerthError('unauthenticated');
    if (access === 'operator' && principal.kind === 'key') return new BerthError('permission_denied');
    return null;
  }

  /** Sets the session's cookie. Throws 401 for anything but the admin's address and password, always after the same work. */
  async login(email: string, password: string, request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const passwordFits = await verifyPassword(password, await this.#passwordHash);
    const isAdmin = this.#adminEmail?.(email) ?? false;
    if (!isAdmin || !passwordFits) throw new DialectError(401, 'Invalid credentials');
    reply.setCookie(cookieName, this.#sessions.create(email), {
      path: '/',
      httpOnly: true,
      sameSite: 'lax',
      secure: request.protocol === 'https',
      maxAge: sessionMaxAge,
    });
  }

  /** Ends the session the request came with, if any. */
  logout(request: FastifyRequest, reply: FastifyReply): void {
    const token = request.cookies[cookieName];
    if (token !== undefined) this.#sessions.end(token);
    reply.clearCookie(cookieName, { path: '/' });
  }
}
