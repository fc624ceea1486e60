import { BerthError } from '../common/errors.ts';
import type { Route } from './http-server.ts';
import { DstackGuest } from './protocol/dstack-guest.ts';

/** Names that no web page can be served under: addresses, and those that always mean this machine. */
const ownNames = /^(?:localhost|host\.docker\.internal|\[[0-9a-f:.]+\]|[0-9.]+)(?::\d+)?$/i;

/**
 * The methods of dstack.sock for programs alone. A page in the developer's browser reaches ports of his machine too, by their
 * address or by a name of its own that it points there; it must not reach his keys.
 */
export function programRoute(route: Route): Route {
  return async (exchange) => {
    const { host = '', origin } = exchange.request.headers;
    const isMethod = Object.hasOwn(DstackGuest, exchange.path[0] ?? '');
    if (isMethod && (origin !== undefined || !ownNames.test(host))) throw new BerthError('permission_denied');
    return route(exchange);
  };
}
