import type { HeaderSource } from './auth.ts';
import type { WireRequest } from './server.ts';

/** Headers by name; one that was sent several times where once is right counts as sent once, joined. */
export function headersOf(request: WireRequest): HeaderSource {
  return (name) => {
    const value = request.headers[name];
    return Array.isArray(value) ? value.join(', ') : value;
  };
}
