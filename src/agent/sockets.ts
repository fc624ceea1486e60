import { existsSync, mkdirSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import { type AddressInfo, createConnection, type ListenOptions } from 'node:net';
import { dirname } from 'node:path';
import { BerthError } from '../common/errors.ts';

/** Bytes that the kernel has for the path of a unix socket. */
const maxSocketPath = 107;

/** @throws BerthError conflict when something answers at a unix socket */
export async function assertFree(path: string): Promise<void> {
  if (await answers(path)) throw new BerthError('conflict', { reason: `something listens at ${path} already` });
}

/**
 * Listens on a unix socket. A socket that a process before this one left is replaced, one that answers is not.
 * @param mode 0o777 for everybody in the VM
 * @throws BerthError conflict when something answers there, invalid_argument for a path that is too long
 */
export async function listenUnix(server: Server, path: string, mode: number): Promise<void> {
  if (Buffer.byteLength(path) > maxSocketPath)
    throw new BerthError('invalid_argument', { reason: `the path of a socket is too long: ${path}` });
  await assertFree(path);
  // At once, as it is only done at a start: each trip to a thread and back is felt in an emulated VM.
  mkdirSync(dirname(path), { recursive: true });
  rmSync(path, { force: true });
  // Bound under the mask: there is no moment in which others could connect to what is not for them.
  const mask = process.umask(0o777 & ~mode);
  const listening = listen(server, { path });
  process.umask(mask);
  await listening;
}

/**
 * Listens on TCP and returns the URL.
 * @param host `::` for all addresses, those of IPv4 too
 */
export async function listenTcp(server: Server, host: string, port: number): Promise<string> {
  // Without a host Node looks nothing up, which it has to load a good deal for; and it goes on where there is no IPv6.
  await listen(server, host === '::' ? { port } : { host, port });
  const { address, family, port: bound } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${bound}`;
}

function listen(server: Server, options: ListenOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(options, () => {
    server.off('error', reject);
    resolve();
  });
  return promise;
}

async function answers(path: string): Promise<boolean> {
  if (!existsSync(path)) return false;
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = createConnection(path);
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
