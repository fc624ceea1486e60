import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { BerthError } from '../../common/errors.ts';
import { isNotListening } from './monitors.ts';

/** Milliseconds that the guest's channel may take to accept. */
const timeoutMs = 2000;

/** Connects to the guest channel's socket. Rejects with `guest_unavailable`. */
export async function openChannel(path: string): Promise<Socket> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      return await connectSocket(path);
    } catch (error) {
      if (!isNotListening(error) || Date.now() > deadline) throw new BerthError('guest_unavailable', {}, error);
    }
    await delay(20);
  }
}

function connectSocket(path: string): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const socket = connect({ path });
  socket.once('error', reject);
  socket.once('connect', () => {
    socket.off('error', reject);
    resolve(socket);
  });
  return promise;
}
