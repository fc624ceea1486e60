import { chmod, rm } from 'node:fs/promises';
import { createConnection, type Server } from 'node:net';
import { ConfigError } from './config.ts';

/** A server, and how it begins to listen. */
export interface Listener {
  readonly scheme: 'http' | 'https';
  readonly server: Pick<Server, 'address'>;
  listen(where: { readonly path: string } | { readonly host: string; readonly port: number }): Promise<unknown>;
}

/** A server of Node's own as a listener. */
export function listenerOf(server: Server, scheme: Listener['scheme'] = 'http'): Listener {
  return {
    scheme,
    server,
    listen(where) {
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      server.once('error', reject);
      server.listen(where, () => {
        server.off('error', reject);
        resolve();
      });
      return promise;
    },
  };
}

/**
 * Opens a listener at `host:port`, `[ipv6]:port` or `unix:/path` and returns its URL, with the port that was chosen when
 * port 0 was asked for. A socket file left by a daemon that is gone is replaced; one that answers is not.
 */
export async function listen(app: Listener, address: string): Promise<string> {
  if (address.startsWith('unix:')) {
    const path = address.slice('unix:'.length);
    if (await answers(path)) throw new ConfigError(`listen address unix:${path} is in use`);
    await rm(path, { force: true });
    await app.listen({ path });
    await chmod(path, 0o660);
    return address;
  }
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[|\]$/g, '');
  await app.listen({ host, port: Number(address.slice(colon + 1)) });
  const bound = app.server.address();
  if (bound === null || typeof bound === 'string') throw new Error(`${address} has no address`);
  return `${app.scheme}://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`;
}

function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = createConnection(path);
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
