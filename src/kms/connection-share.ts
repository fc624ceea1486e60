import { isIPv6, type Server, type Socket } from 'node:net';

/** Connections at once, of all. */
const MAX_CONNECTIONS = 256;
/** Of these, for one address: a guest that holds connections open must not shut the others out. */
const MAX_PER_ADDRESS = 32;

/** Bounds the connections of a server, together and of one address. Those beyond are closed before anything is read. */
export function shareConnections(server: Server): void {
  const open = new Map<string, number>();
  server.maxConnections = MAX_CONNECTIONS;
  server.on('connection', (socket: Socket) => {
    const owner = ownerOf(socket.remoteAddress ?? '');
    const count = open.get(owner) ?? 0;
    if (count >= MAX_PER_ADDRESS) {
      socket.destroy();
      return;
    }
    open.set(owner, count + 1);
    socket.once('close', () => {
      const left = open.get(owner)! - 1;
      if (left > 0) open.set(owner, left);
      else open.delete(owner);
    });
  });
}

/** An IPv4 address, or the first 64 bits of an IPv6 address: the others are the guest's own choice. */
function ownerOf(address: string): string {
  const mapped = address.replace(/^::ffff:(?=\d+\.)/i, '');
  if (!isIPv6(mapped)) return mapped;
  const [head = '', tail] = mapped.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail ? tail.split(':') : [];
  const zeros = tail === undefined ? [] : Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...zeros, ...after].slice(0, 4).join(':');
}
