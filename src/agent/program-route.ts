import { BerthError } from '../common/errors.ts';
import type { Route } from './http-server.ts';
import { DstackGuest } from './protocol/dstack-guest.ts';

/**
 * Names that no web page can be served under: addresses, and those that always mean this machine. Not those of this machine that
 * browsers do not take for it (`0.0.0.0`, `[::]`, `[::ffff:127.0.0.1]`): they would not say there what asks.
 */
const ownNames = /^(?:localhost|host\.docker\.internal|\[(?!::(?:ffff:|\]))[0-9a-f:.]+\]|(?!0)[0-9.]+)(?::\d+)?$/i;

/** What browsers say of requests that no other page is behind: typed by the user, or made by a page of this port. */
const ownSites = new Set<unknown>(['none', 'same-origin']);

/**
 * The methods of dstack.sock for programs alone. A page in the developer's browser reaches ports of his machine too, by their
 * address or by a name of its own that it points there; it must not reach his keys. Pictures and links have no `Origin`;
 * browsers name their site in `Sec-Fetch-Site`, which programs do not send.
 */
export function programRoute(route: Route): Route {
  return async (exchange) => {
    const { host = '', origin, 'sec-fetch-site': site = 'none' } = exchange.request.headers;
    const isOfPage = origin !== undefined || !ownSites.has(site) || !ownNames.test(host);
    const isMethod = Object.hasOwn(DstackGuest, exchange.path[0] ?? '');
    if (isMethod && isOfPage) throw new BerthError('permission_denied');
    return route(exchange);
  };
}
