import { join } from 'node:path';

/** Linux' limit for the path of a unix socket. */
const maxSocketPath = 107;

/** Where things are in a VM's directory. */
export function vmFiles(dir: string) {
  return {
    qmpSocket: join(dir, 'qmp.sock'),
    guestSocket: join(dir, 'guest.sock'),
    consoleLog: join(dir, 'console.log'),
    engineLog: join(dir, 'engine.log'),
  } as const;
}

/** The VM's sockets. Throws RangeError when the directory's path is too long for one. */
export function vmSockets(dir: string): readonly string[] {
  const { qmpSocket, guestSocket } = vmFiles(dir);
  for (const path of [qmpSocket, guestSocket]) {
    if (Buffer.byteLength(path) > maxSocketPath) throw new RangeError(`path too long for a socket: ${path}`);
  }
  return [qmpSocket, guestSocket];
}
