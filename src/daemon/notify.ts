import { runCommand } from '../common/command.ts';
import type { Log } from '../common/log.ts';

/**
 * Tells systemd (Type=notify) how far the daemon is. Node has no datagram unix sockets, so systemd's own client does it:
 * it waits until the message was handled, where a program that sends and ends may be gone before systemd has looked up
 * whose it is. Nothing happens when the daemon was not started by systemd.
 */
export async function notifySystemd(state: 'READY=1' | 'STOPPING=1', log: Log): Promise<void> {
  if (!process.env.NOTIFY_SOCKET) return;
  try {
    await runCommand('systemd-notify', [`--pid=${process.pid}`, state], { timeoutMs: 5000 });
  } catch (error) {
    log.warn({ err: error }, 'systemd could not be told');
  }
}
