import { createDispatch } from '../api/prpc/dispatch.ts';
import { servePrpc } from '../api/prpc/http.ts';
import type { Handlers, Service } from '../api/prpc/service.ts';
import type { Route } from './http-server.ts';
import type { AgentLog } from './log.ts';

/**
 * The methods of a service below a path: `/<mount>/<method>`, by GET and POST.
 * @param mount empty for the root
 * @param prefix that may stand before a method, such as `Worker.`
 * @param maxBytes of a request's body; the protocol's bound when it is left out
 */
export function prpcRoute<S extends Service>(
  mount: string,
  service: S,
  handlers: Handlers<S>,
  { prefix, maxBytes, log }: { readonly prefix?: string; readonly maxBytes?: number; readonly log: AgentLog },
): Route {
  const dispatch = createDispatch(service, handlers, {
    ...(prefix === undefined ? {} : { prefixes: [prefix] }),
    onError: (method, error) => {
      if (error.code === 'internal') log.error({ method, err: error.cause }, 'call failed');
    },
  });
  const depth = mount === '' ? 1 : 2;
  return async ({ request, response, path, query }) => {
    const isCall = request.method === 'GET' || request.method === 'POST';
    if (!isCall || path.length !== depth || (mount !== '' && path[0] !== mount)) return false;
    const call = { name: path[depth - 1]!, query, ...(maxBytes === undefined ? {} : { maxBytes }) };
    await servePrpc(dispatch, request, response, call, undefined);
    return true;
  };
}
